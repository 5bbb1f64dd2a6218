"""Commands to Redis and their replies, under one deadline, never sent twice."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from flashsale_redis.faults import unavailable_of

DEADLINE_S = 0.28
"""Redis's share of a buyer's 0.8 s: a buyer hears within 300 ms that the gate is away."""
WORK_DEADLINE_S = 1.0
"""For a worker's batch, which no buyer waits for: on a busy machine its process may take longer
to come to the reply than a buyer would wait, and to give up means to do the delivery again."""
SILENCE_SHARE = 0.7
"""Of a deadline, for connecting and for the replies each, where a buyer waits: of 500 who come
together the last must hear within the 300 ms too, and their coming and hearing takes up to 100.
A buyer's call is 30 ms of Redis at most, so six times that is silence; a worker's may be more."""
CONNECTIONS_MAX = 16
"""A process needs few: calls are coalesced, and one in flight keeps a single-threaded gate busy."""
PROMPT_S = 0.01
"""A connection that was there in this time has used nothing of what the replies may take."""

LAG_S_DEFAULT = 10
"""Redis's own `min-replicas-max-lag`, for a user who may not ask for it."""
NO_SALE = "-"
"""The hash tag of a sale that cannot be."""

Command = Sequence[str | bytes | int]
Then = Callable[[Sequence[Any]], Sequence[Command]]


class GateServer(Protocol):
    """One server that serves sales."""

    @property
    def lag_s_default(self) -> int:
        """Say for how many seconds it may go on cut off, where it may not be asked."""

    async def run(
        self,
        commands: Sequence[Command],
        then: Then | None = None,
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[Any]:
        """See `Wire.run`."""


class GateWire(Protocol):
    """All servers of a gate: one, or a cluster's.

    Where they are several, `run` and `everywhere` answer an Unavailable in the place of a reply
    that one of them owes; where there is one, its silence is raised.
    """

    async def run(
        self,
        commands: Sequence[Command],
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[Any]:
        """Run FCALLs, each where its first key is."""

    async def everywhere(
        self,
        ask: Callable[[str], Sequence[Command]],
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[list[Any]]:
        """Run commands on every server, each made for a hash tag that it serves."""

    async def shares(self, keys: Sequence[str]) -> Sequence[tuple[GateServer, Sequence[int]]]:
        """Say which server has which keys, by their places. Raises Unavailable."""

    async def aclose(self) -> None:
        """Close every connection."""


class Wire:
    """A pool of connections that runs several commands in one round trip."""

    lag_s_default = LAG_S_DEFAULT

    def __init__(self, url: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Open nothing yet. `url` is redis:// or rediss://, with user and password if any."""
        self._deadline_s = deadline_s
        kind = SSLConnection if urlsplit(url).scheme == "rediss" else Connection
        self._pool = BlockingConnectionPool.from_url(
            url,
            connection_class=kind,
            max_connections=CONNECTIONS_MAX,
            timeout=deadline_s,
            # One deadline over connect, send and all replies stands in `run`.
            socket_timeout=None,
            socket_connect_timeout=None,
            socket_keepalive=True,
            # A lost reply must not run a script again: the caller decides, with the same id.
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            protocol=3,
            decode_responses=False,
            client_name="flashsale",
        )

    async def run(
        self,
        commands: Sequence[Command],
        then: Then | None = None,
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[Any]:
        """Send all, then read a reply each; an error REPLY is returned in its place.

        What `then` makes of the replies is sent on the very same connection, and answered instead.
        With `is_waited_for` a buyer waits, and a silence ends it sooner (`SILENCE_SHARE`).
        Raises Unavailable; `may_have_happened` once the first byte may have left.
        """
        was_sent = False
        now_s, whole_s = asyncio.get_running_loop().time, deadline_s or self._deadline_s
        silence_s = whole_s * SILENCE_SHARE if is_waited_for else whole_s
        began_s = now_s()
        try:
            async with asyncio.timeout(silence_s) as deadline:
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    await _alive(connection)
                    packed = _packed(commands)
                    was_sent = True
                    if is_waited_for and (sent_s := now_s()) - began_s > PROMPT_S:
                        deadline.reschedule(min(began_s + whole_s, sent_s + silence_s))
                    await connection.send_packed_command(packed, check_health=False)
                    replies = [await _reply(connection) for _ in commands]
                    if then is None or not (further := then(replies)):
                        return [] if then is not None else replies
                    # Connected still, so not to another server: a lost connection has raised.
                    await connection.send_packed_command(_packed(further), check_health=False)
                    return [await _reply(connection) for _ in further]
                except BaseException:
                    # Replies still on their way must not answer the next caller.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    await self._pool.release(connection)
        except (RedisError, OSError, TimeoutError) as error:
            raise unavailable_of(error, was_sent=was_sent) from error

    async def everywhere(
        self,
        ask: Callable[[str], Sequence[Command]],
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[list[Any]]:
        """Run them here, where everything is."""
        commands = ask(NO_SALE)
        return [await self.run(commands, deadline_s=deadline_s, is_waited_for=is_waited_for)]

    async def shares(self, keys: Sequence[str]) -> Sequence[tuple[GateServer, Sequence[int]]]:
        """Say that all of them are here."""
        return [(self, range(len(keys)))]

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def _alive(connection: AbstractConnection) -> None:
    """Connect again where the server has closed: what was sent there would be of unknown effect.

    The pool looks for this only without RESP3.
    """
    reader = connection._reader  # noqa: SLF001 - nothing public tells it without a system call
    if reader is not None and reader.at_eof():
        await connection.disconnect(nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call]


def _packed(commands: Sequence[Command]) -> bytes:
    """Write all commands at once: the client's own way makes several pieces of each."""
    # Its types say that a command is a single word.
    return b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as refused:
        return refused


def config_of(reply: Any) -> dict[str, str]:
    """Read the reply of CONFIG GET: a map, or name and value in turn."""
    pairs = reply.items() if isinstance(reply, Mapping) else zip(*[iter(reply)] * 2, strict=True)
    return {bytes(name).decode(): bytes(value).decode() for name, value in pairs}
