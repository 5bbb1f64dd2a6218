"""What may be wrong with a Redis, and the command that mends each."""

from collections.abc import Mapping
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from flashsale_core.errors import Unavailable
from flashsale_core.operating import Finding, OperateGate, warning, wrong
from flashsale_redis.faults import unavailable_of
from flashsale_redis.library import gate_library
from flashsale_redis.opening import open_redis_gate
from flashsale_redis.wire import NO_SALE, Command, Wire, config_of

VERSION_MIN = (7, 0)
"""Functions came with Redis 7.0; every Valkey has them."""
LAG_S_MAX = 5
"""Replicas report each second. A primary that was cut off sells on for as long as this."""
DEADLINE_S = 6.0
"""A diagnosis is in no hurry, and must not call a slow server a dead one, nor its own start: what
looks at the others is imported meanwhile."""
CLI = 'redis-cli -u "$FLASHSALE_GATE_URL"'
REFUSED_LOGINS = ("WRONGPASS", "NOAUTH", "invalid username-password", "AuthenticationError")
_REACHED = "redis reachable"


class RedisOperator:
    """Looks after the Redis behind a gate; connects and disconnects in each call."""

    def __init__(self, url: str, namespace: str, *, tag: str = NO_SALE) -> None:
        """Remember where it is; `tag` is a hash tag that it serves."""
        self._url = url
        self._namespace = namespace
        self._tag = tag

    async def install(self) -> bool:
        """See `GateOperator.install`."""
        async with open_redis_gate(self._url, namespace=self._namespace, installs=False) as gate:
            return await gate.install()

    async def diagnose(self) -> list[Finding]:
        """See `GateOperator.diagnose`; without an answer there is one finding only."""
        wire = Wire(self._url, deadline_s=DEADLINE_S)
        try:
            info, fences, function = await wire.run(
                [("INFO",), ("CONFIG", "GET", "min-replicas-*"), self._harmless_call()]
            )
        except Unavailable as away:
            return [away_finding(str(away))]
        finally:
            await wire.aclose()
        if isinstance(info, ResponseError):
            if not isinstance(info, NoPermissionError):
                return [away_finding(str(info))]
            # The API's user may not look; what it needs for its work is looked at all the same.
            return [_unseen(str(info)), _functions(function), *_rights(function)]
        facts = _facts(info)
        return [
            Finding(name=_REACHED, said=_version(facts)),
            _new_enough(facts),
            _eviction(facts),
            _functions(function),
            *_rights(function),
            _persistence(facts),
            self._replication(facts, fences),
        ]

    async def journal_faults(self) -> list[str]:
        """See `GateOperator.journal_faults`."""
        wire = Wire(self._url, deadline_s=DEADLINE_S)
        try:
            info, fsync = await wire.run([("INFO",), ("CONFIG", "GET", "appendfsync")])
        finally:
            await wire.aclose()
        if isinstance(info, ResponseError):
            raise unavailable_of(info, was_sent=True)
        return _journal_faults(_facts(info), fsync)

    def _replication(self, facts: Mapping[str, str], fences: Any) -> Finding:
        return _replication(facts, fences)

    def _harmless_call(self) -> Command:
        """Ask, about a sale that cannot be, what this user may not do."""
        function = gate_library().function("rights")
        return ("FCALL", function, 1, f"{self._namespace}:{{{self._tag}}}:sale")


def _unseen(said: str) -> Finding:
    problem = f"eviction, persistence and replicas were not looked at: {said}"
    fix = "run this as the worker's user too, which may: ACL SETUSER <user> +info +config|get"
    return warning("redis rights to look", problem, fix)


def _rights(reply: object) -> list[Finding]:
    if isinstance(reply, ResponseError) or not isinstance(reply, list):
        return []
    lacking = " ".join(f"+{bytes(command).decode().lower()}" for command in reply)
    if not lacking:
        return [Finding(name="redis rights")]
    problem = f"the gate's functions run with this user's rights, which lack {lacking}"
    return [wrong("redis rights", problem, f"ACL SETUSER <user> {lacking}")]


def _journal_faults(facts: Mapping[str, str], fsync: Any) -> list[str]:
    faults = []
    if facts.get("aof_enabled") != "1":
        faults.append(f"appendonly is no: {CLI} CONFIG SET appendonly yes (and in redis.conf)")
    if isinstance(fsync, ResponseError):
        faults.append(f"appendfsync cannot be read: {fsync}; grant +config|get")
    elif (policy := config_of(fsync).get("appendfsync", "?")) != "always":
        mend = f"{CLI} CONFIG SET appendfsync always (and in redis.conf)"
        faults.append(f"appendfsync is {policy}, which may lose a second: {mend}")
    if facts.get("role") == "slave" or facts.get("connected_slaves", "0") != "0":
        faults.append(
            "it has replicas, and one that is promoted has not all that was answered: detach them"
        )
    return faults


def away_finding(said: str) -> Finding:
    """Say what to do about a server that does not answer, or not as it should."""
    if any(sign in said for sign in REFUSED_LOGINS):
        fix = "put the right user and password into FLASHSALE_GATE_URL (redis://USER:PASSWORD@…)"
        return wrong("redis login", said, fix)
    if "no permissions" in said:
        return wrong("redis rights", said, "ACL SETUSER <user> as docs/security.md lists it")
    if "certificate" in said.lower() or "SSL" in said:
        fix = (
            "use rediss:// on the TLS port, the certificate's host, and ?ssl_ca_certs=/path/ca.pem"
        )
        return wrong("redis TLS", said, fix)
    return wrong(_REACHED, said, f"start Redis, or correct FLASHSALE_GATE_URL; try: {CLI} PING")


def _facts(info: Any) -> dict[str, str]:
    text = bytes(info).decode("utf-8", "replace")
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def _version(facts: Mapping[str, str]) -> str:
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return f"Redis {facts.get('redis_version', '?')}"


def _new_enough(facts: Mapping[str, str]) -> Finding:
    # Valkey goes on saying the Redis version that it is compatible with.
    numbers = facts.get("redis_version", "0.0").split(".")[:2]
    found = tuple(int(number) if number.isdigit() else 0 for number in numbers)
    if found >= VERSION_MIN:
        return Finding(name="redis version", said=_version(facts))
    problem = f"{_version(facts)} has no functions, which the gate is made of"
    return wrong("redis version", problem, "install Redis 7.0 or newer, or Valkey")


def _eviction(facts: Mapping[str, str]) -> Finding:
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding(name="redis eviction", said=policy)
    problem = f"maxmemory-policy is {policy}: under memory pressure Redis throws purchases away"
    fix = f"{CLI} CONFIG SET maxmemory-policy noeviction (and in redis.conf)"
    return wrong("redis eviction", problem, fix)


def _functions(reply: object) -> Finding:
    name, fix = "redis functions", "flashsale gate install"
    if not isinstance(reply, ResponseError):
        return Finding(name=name)
    if "Function not found" in str(reply):
        return wrong(name, "the gate's function library is not loaded", fix)
    if isinstance(reply, NoPermissionError):
        return wrong(name, str(reply), "ACL SETUSER <user> +fcall ~<namespace>:*")
    return Finding(name=name)


def _persistence(facts: Mapping[str, str]) -> Finding:
    if facts.get("aof_enabled") == "1":
        return Finding(name="redis persistence", said="appendonly yes")
    problem = "appendonly is no: after a restart of Redis every sale must be rebuilt"
    fix = f"{CLI} CONFIG SET appendonly yes (and in redis.conf)"
    return warning("redis persistence", problem, fix)


def _replication(facts: Mapping[str, str], fences: Any) -> Finding:
    name = "redis replication"
    if facts.get("role") == "slave":
        fix = "name the primary in FLASHSALE_GATE_URL"
        return wrong(name, "this is a replica, which takes no writes", fix)
    if facts.get("connected_slaves", "0") == "0":
        return Finding(name=name, said="no replicas")
    if isinstance(fences, ResponseError):
        if "min_slaves_good_slaves" in facts:
            return Finding(name=name, said="min-replicas-to-write is set")
        least, lag_s = 0, 0
    else:
        told = config_of(fences)
        least, lag_s = (
            int(told.get(name, 0)) for name in ("min-replicas-to-write", "min-replicas-max-lag")
        )
    if least >= 1 and lag_s <= LAG_S_MAX:
        said = f"min-replicas-to-write {least}, min-replicas-max-lag {lag_s} s"
        return Finding(name=name, said=said)
    problem = (
        f"min-replicas-to-write is {least} and min-replicas-max-lag {lag_s} s: a primary that was "
        "cut off from its replicas goes on selling"
    )
    sets = f"min-replicas-to-write 1 min-replicas-max-lag {LAG_S_MAX}"
    return wrong(name, problem, f"{CLI} CONFIG SET {sets} (and in redis.conf)")


_: OperateGate = RedisOperator
