"""What only other Redis servers than ours would show the doctor."""

import pytest
from redis.exceptions import NoPermissionError

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


def test_a_redis_without_its_log_is_a_warning_that_names_the_mend() -> None:
    """After its restart every sale must be rebuilt, which costs no promise."""
    assert operating._persistence({"aof_enabled": "1"}).verdict is Verdict.OK
    for facts in ({"aof_enabled": "0"}, {}):
        found = operating._persistence(facts)
        assert found.verdict is Verdict.WARNING
        assert "CONFIG SET appendonly yes" in found.fix


KEEPS = {"aof_enabled": "1", "role": "master", "connected_slaves": "0"}
ALWAYS = {b"appendfsync": b"always"}


@pytest.mark.parametrize(
    ("facts", "fsync", "said"),
    [
        (KEEPS | {"aof_enabled": "0"}, ALWAYS, "appendonly is no"),
        (KEEPS, {b"appendfsync": b"everysec"}, "appendfsync is everysec, which may lose a second"),
        (KEEPS, {b"appendfsync": b"no"}, "appendfsync is no"),
        (KEEPS, {}, "appendfsync is ?"),
        (KEEPS, NoPermissionError("no"), "appendfsync cannot be read"),
        (KEEPS | {"connected_slaves": "1"}, ALWAYS, "it has replicas"),
        (KEEPS | {"role": "slave"}, ALWAYS, "it has replicas"),
    ],
)
def test_a_journal_that_may_be_shortened_holds_no_promise(
    facts: dict[str, str], fsync: object, said: str
) -> None:
    """Each fault is told alone, and what cannot be seen is none that is trusted."""
    [fault] = operating._journal_faults(facts, fsync)
    assert fault.startswith(said)
    assert operating._journal_faults(KEEPS, ALWAYS) == []
