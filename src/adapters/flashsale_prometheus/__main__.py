"""`python -m flashsale_prometheus` prints `docs/metrics.md`."""

import sys

from flashsale_prometheus.catalogue import page

sys.stdout.write(page())
