"""Connections, the question that finds out why there is none, and aiokafka's noise."""

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from flashsale_core.errors import Unavailable, Why
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.faults import DRIVER_ERRORS, NEEDS_A_PERSON, translated

CLIENT_ID = "flashsale"
RETRY_BACKOFF_MS = 100
IDLE_MS_MAX = 540_000
"""A minute under the brokers' own limit of ten, so that we hang up first."""
GOODBYE_S = 0.25
"""How long a knock waits for a broker to close its side, where one answered at all."""


async def connection_options(config: KafkaConfig) -> dict[str, Any]:
    """Build what every client of aiokafka is given to connect.

    Raises Unavailable when the authority's file cannot be read.
    """
    context = None
    if config.security_protocol.endswith("SSL"):
        try:
            context = await asyncio.to_thread(ssl.create_default_context, cafile=config.ca_file)
        except OSError as exc:
            detail = f"the authority's file FLASHSALE_KAFKA_CA cannot be read: {exc}"
            raise Unavailable(Why.BUS_AWAY, detail) from exc
    has_login = config.security_protocol.startswith("SASL")
    return {
        "client_id": CLIENT_ID,
        "security_protocol": config.security_protocol,
        "ssl_context": context,
        "sasl_mechanism": config.sasl_mechanism,
        "sasl_plain_username": config.username if has_login else None,
        "sasl_plain_password": config.password if has_login else None,
    }


def client_options(config: KafkaConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Add what a client needs beyond one connection."""
    return options | {
        "bootstrap_servers": list(config.brokers),
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "connections_max_idle_ms": IDLE_MS_MAX,
    }


async def knock(config: KafkaConfig, options: dict[str, Any]) -> None:
    """Ask the brokers in turn for a sign of life; the first that gives one is enough.

    aiokafka's own start says only "unable to bootstrap" and keeps the reason for its log; this
    asks for the reason. Raises Unavailable with the one that a person must mend, if there is one.
    """
    failure: Exception | None = None
    for broker in config.brokers:
        try:
            async with asyncio.timeout(config.connect_ms / 1_000):
                await _ask(broker, config, options)
        except DRIVER_ERRORS as exc:
            if failure is None or isinstance(exc, NEEDS_A_PERSON):
                failure = exc
        else:
            return
    if failure is not None:
        doing = f"connecting to {','.join(config.brokers)} by {config.security_protocol}"
        raise translated(failure, doing) from failure


async def _ask(broker: str, config: KafkaConfig, options: dict[str, Any]) -> None:
    host, _, port = broker.rpartition(":")
    connection = AIOKafkaConnection(
        host.strip("[]"), int(port), request_timeout_ms=config.connect_ms, **options
    )
    try:
        await connection.connect()
        # A listener that wants a login tells its versions to all, and hangs up on the rest.
        await connection.send(MetadataRequest([]))
    finally:
        # TLS closes with an answer; a command whose loop ends before it would leak the socket.
        await asyncio.wait({connection.close()}, timeout=GOODBYE_S)


class _Silence:
    """Counts who wants aiokafka to be silent; several buses may be open at once."""

    def __init__(self) -> None:
        self.wanted_by = 0

    def begin(self, logger: logging.Logger) -> None:
        if self.wanted_by == 0:
            logger.setLevel(logging.CRITICAL)
        self.wanted_by += 1

    def end(self, logger: logging.Logger) -> None:
        self.wanted_by -= 1
        if self.wanted_by == 0:
            logger.setLevel(logging.NOTSET)


_silence = _Silence()


@contextmanager
def quiet_driver() -> Iterator[None]:
    """Keep aiokafka from logging what the adapter says itself, once, as an exception.

    While a broker is away it writes several lines a second. A level that somebody has set on the
    logger `aiokafka` is left as it is.
    """
    logger = logging.getLogger("aiokafka")
    if logger.level != logging.NOTSET and _silence.wanted_by == 0:
        yield
        return
    _silence.begin(logger)
    try:
        yield
    finally:
        _silence.end(logger)


__all__ = ["client_options", "connection_options", "knock", "quiet_driver"]
