"""What must hold before a program begins its work, and how it comes to be known."""

import asyncio
import errno
import socket
from collections.abc import Mapping

import structlog

from flashsale.opening import bus_operator, gate_operator
from flashsale.readiness import Probe
from flashsale.settings import Durability, JournalLoss, Settings
from flashsale_core.errors import Conflict, Unavailable
from flashsale_core.operating import Verdict
from flashsale_core.ports import Codec, EventBus

TRY_AGAIN_S = 0.5
"""Between two looks while a start waits: short beside what any server needs to start."""


JOURNAL_MAY_LOSE = (
    "FLASHSALE_DURABILITY=journaled promises what the gate alone remembers, and this one may "
    "forget it; mend this, take `confirmed`, or set FLASHSALE_JOURNAL_LOSS=i-accept-loss:"
)
NOBODY_SAYS = "its adapter does not say whether it keeps what it has answered"


class StartFailed(Exception):
    """The program cannot begin; the message says what to do."""


def claim_port(host: str, port: int, setting: str) -> None:
    """Make sure that nobody listens there yet, before anything else is opened.

    Raises StartFailed that names the way round.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # As the servers do: a port in TIME_WAIT is free, a listener's is not.
        socket.create_server(where[:2], family=family).close()
    except OSError as exc:
        raise StartFailed(port_problem(host, port, setting, exc)) from exc


def port_problem(host: str, port: int, setting: str, exc: OSError) -> str:
    """Say why nobody can listen there, and the way round."""
    if exc.errno != errno.EADDRINUSE:
        return f"{setting}: nobody can listen on {host} port {port}: {exc.strerror}"
    other = port + 10 if port + 10 < 2**16 else port - 10
    way_round = f"set {setting} to another"
    if setting == "FLASHSALE_HTTP_PORT":
        way_round = f"take another: make run PORT={other}, or {setting}={other}"
    return f"port {port} on {host} is in use by another program; {way_round}"


def bus_fits(settings: Settings, bus: EventBus, codec: Codec) -> Probe:
    """Make the look at a bus before the start: it answers, and its topology has the right shape.

    The look raises Conflict, which shows both shapes, where no waiting will help.
    """

    async def look() -> None:
        await bus.check()
        operator = bus_operator(settings, codec)
        if operator is None:
            return
        for finding in await operator.diagnose():
            if finding.verdict is Verdict.WRONG:
                raise Conflict("topology", f"{finding.name}: {finding.said}; fix: {finding.fix}")

    return look


def journal_keeps(settings: Settings) -> Probe:
    """Make the look at a gate whose journal is all that holds a promise.

    The look raises Conflict, which says what to change, where a crash could shorten the journal.
    """

    async def look() -> None:
        if settings.durability is not Durability.JOURNALED:
            return
        if settings.journal_loss is JournalLoss.ACCEPT:
            return
        operator = gate_operator(settings)
        faults = await operator.journal_faults() if operator is not None else [NOBODY_SAYS]
        if faults:
            raise Conflict("journal-may-lose", "\n  ".join([JOURNAL_MAY_LOSE, *faults]))

    return look


async def wait_until_answering(probes: Mapping[str, Probe], timeout_s: float) -> None:
    """Wait until every dependency has answered once, side by side.

    Raises StartFailed that names each one that did not, with its last error, and at once when
    one can be known never to answer right (a queue or topic of another shape).
    """
    errors: dict[str, str] = {}
    try:
        async with asyncio.timeout(timeout_s):
            await _all_answer(probes, errors)
    except TimeoutError:
        lines = [f"{name}: {error}" for name, error in sorted(errors.items())]
        waited = f"not ready after {timeout_s:g} s:"
        raise StartFailed("\n  ".join([waited, *lines])) from None


async def _all_answer(probes: Mapping[str, Probe], errors: dict[str, str]) -> None:
    refused: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            for name, probe in probes.items():
                group.create_task(_until_it_answers(name, probe, errors))
    except* Conflict as conflicts:
        refused = [str(conflict) for conflict in conflicts.exceptions]
    if refused:
        raise StartFailed("\n".join(refused))


async def _until_it_answers(name: str, probe: Probe, errors: dict[str, str]) -> None:
    errors[name] = "no answer yet"
    log = structlog.get_logger("flashsale")
    while True:
        try:
            await probe()
        except Unavailable as away:
            if errors[name] != str(away):
                log.warning("the start waits", dependency=name, error=str(away))
            errors[name] = str(away)
            await asyncio.sleep(TRY_AGAIN_S)
        else:
            del errors[name]
            return
