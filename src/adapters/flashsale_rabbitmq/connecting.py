"""Lines to the broker that are opened when somebody needs them, and again when they broke."""

import asyncio
import ssl
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from flashsale_core.errors import Unavailable, Why
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.faults import translated

RETRY_PAUSE_S = 0.1
"""After a refused connection the next is tried no sooner: a crowd of callers must not hammer."""
CLOSE_S = 1.0
"""A broker that is gone cannot say goodbye; the socket is dropped after this."""


async def connect(
    config: RabbitMQConfig, name: str, kind: type[aio_pika.Connection] = aio_pika.Connection
) -> AbstractConnection:
    """Open one connection, shown under `name` in the broker's lists. Raises Unavailable."""
    doing = f"connecting to {where(config)}"
    with translated(doing):
        return await aio_pika.connect(
            _url(config),
            ssl_context=await _tls(config),
            timeout=config.connect_ms / 1_000,
            client_properties={"connection_name": name},
            connection_class=kind,
        )


def where(config: RabbitMQConfig) -> str:
    """Name the broker without its secrets."""
    parts = urlsplit(config.url)
    return f"{parts.hostname}:{parts.port or ('5671' if parts.scheme == 'amqps' else '5672')}"


async def _tls(config: RabbitMQConfig) -> ssl.SSLContext | None:
    if urlsplit(config.url).scheme != "amqps":
        return None
    # Named in the URL as the driver's own URLs do.
    ca_file = URL(config.url).query.get("cafile", config.ca_file)
    # Reading the file of authorities blocks.
    return await asyncio.to_thread(
        ssl.create_default_context, ssl.Purpose.SERVER_AUTH, cafile=ca_file
    )


def _url(config: RabbitMQConfig) -> URL:
    url = URL(config.url)
    # aiormq decodes %2F alone, so the path is handed over decoded but for its slashes.
    virtual_host = unquote(url.raw_path.removeprefix("/"))
    path = "/" + virtual_host.replace("/", "%2F")
    return url.with_path(path, encoded=True).with_query(heartbeat=config.heartbeat_s)


def is_open(connection: AbstractConnection | None) -> bool:
    """Say whether a connection can carry something; aio-pika's own flag only knows our closing."""
    transport = connection.transport if connection is not None else None
    return transport is not None and not transport.connection.is_closed


async def close_quietly(closing: AbstractConnection | AbstractChannel) -> None:
    """Close what may be broken already, and wait no longer than it deserves.

    In a task of its own: whoever closes may have been cancelled, and until Python 3.11.3
    `asyncio.timeout` then took its own cancel for that one.
    """
    task = asyncio.ensure_future(_close(closing))
    try:
        await asyncio.wait([task], timeout=CLOSE_S)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def _close(closing: AbstractConnection | AbstractChannel) -> None:
    with suppress(Unavailable), translated("closing"):
        await closing.close()


class Line:
    """One connection, shared by its callers; a lost one is replaced on the next use."""

    def __init__(
        self,
        config: RabbitMQConfig,
        name: str,
        kind: type[aio_pika.Connection] = aio_pika.Connection,
    ) -> None:
        """Remember where to connect; nothing is opened yet."""
        self._kind = kind
        self._config = config
        self._name = name
        self._connection: AbstractConnection | None = None
        self._attempt: asyncio.Task[AbstractConnection] | None = None
        self._failed: tuple[float, Unavailable] | None = None
        self._is_closed = False

    async def connection(self) -> AbstractConnection:
        """Return an open connection. Callers share an attempt, and each may give up on its own.

        Raises Unavailable when the broker cannot be reached, at once if that was just found out.
        """
        if self._connection is not None and is_open(self._connection):
            return self._connection
        if self._is_closed:
            raise Unavailable(Why.BUS_AWAY, "the bus is closed")
        if self._attempt is None:
            self._raise_recent_failure()
            self._attempt = asyncio.create_task(self._connect())
            self._attempt.add_done_callback(self._attempted)
        # Closing the line cancels the attempt, and not those who wait for it.
        with translated("connecting"):
            return await asyncio.shield(self._attempt)

    async def close(self) -> None:
        """Close the connection; the line cannot be used again."""
        self._is_closed = True
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
        if self._connection is not None:
            await close_quietly(self._connection)
            self._connection = None

    async def _connect(self) -> AbstractConnection:
        if self._connection is not None:
            await close_quietly(self._connection)
            self._connection = None
        connection = await connect(self._config, self._name, self._kind)
        self._connection = connection
        return connection

    def _attempted(self, attempt: asyncio.Task[AbstractConnection]) -> None:
        self._attempt = None
        # Asking for the exception also tells asyncio that somebody looked.
        failure = None if attempt.cancelled() else attempt.exception()
        if isinstance(failure, Unavailable):
            self._failed = (asyncio.get_running_loop().time(), failure)

    def _raise_recent_failure(self) -> None:
        if self._failed is None:
            return
        when, failure = self._failed
        if asyncio.get_running_loop().time() - when < RETRY_PAUSE_S:
            raise Unavailable(failure.why, failure.detail)
        self._failed = None
