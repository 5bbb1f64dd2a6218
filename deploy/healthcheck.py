"""The container's health check: exit code 0 when one of this image's two doors answers /healthz.

An API listens on FLASHSALE_HTTP_PORT, a worker on the port of FLASHSALE_WORKER_HTTP; one container
is one of them. Orchestrators ask /healthz and /readyz themselves.
"""

import os
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 1.0


def main() -> int:
    """Ask both doors; say on standard error what each answered when none is well."""
    troubles = []
    # No proxy of the environment's stands between a container and itself.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    api = os.environ.get("FLASHSALE_HTTP_PORT", "8080")
    worker = os.environ.get("FLASHSALE_WORKER_HTTP", "127.0.0.1:8081").rpartition(":")[2]
    for port in dict.fromkeys((api, worker)):
        url = f"http://127.0.0.1:{port}/healthz"
        try:
            with direct.open(url, timeout=TIMEOUT_S) as answer:
                if answer.status == 200:  # noqa: PLR2004 - OK
                    return 0
        except (OSError, urllib.error.URLError) as exc:
            troubles.append(f"{url}: {exc}")
    print("\n".join(troubles), file=sys.stderr)  # noqa: T201 - an orchestrator shows it
    return 1


if __name__ == "__main__":
    sys.exit(main())
