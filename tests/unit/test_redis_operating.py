"""What only other Redis servers than ours would show the doctor."""

import pytest

from flashsale_core.operating import Verdict
from flashsale_redis import operating


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({"redis_version": "6.2.14"}, Verdict.WRONG),
        ({"redis_version": "7.0.15"}, Verdict.OK),
        ({"redis_version": "10.1.0"}, Verdict.OK),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, Verdict.OK),
        ({}, Verdict.WRONG),
    ],
)
def test_a_redis_without_functions_is_too_old(facts: dict[str, str], verdict: Verdict) -> None:
    """Functions came with Redis 7.0; the numbers are compared as numbers."""
    found = operating._new_enough(facts)
    assert found.verdict is verdict
    assert bool(found.fix) == (verdict is Verdict.WRONG)


def test_a_lag_that_is_too_long_is_no_fence() -> None:
    """A primary that was cut off sells on for as long as its replicas may be silent."""
    facts = {"role": "master", "connected_slaves": "1"}
    fence = {b"min-replicas-to-write": b"1", b"min-replicas-max-lag": b"60"}
    assert operating._replication(facts, fence).verdict is Verdict.WRONG
    fence[b"min-replicas-max-lag"] = b"5"
    assert operating._replication(facts, fence).verdict is Verdict.OK
