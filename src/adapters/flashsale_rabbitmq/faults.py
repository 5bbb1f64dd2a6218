"""The one place where the driver's exceptions become the engine's."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aio_pika.exceptions import AMQPError
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ConnectionNotAllowed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from pamqp.exceptions import PAMQPException

from flashsale_core.errors import Unavailable, Why

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    *(AMQPError, PAMQPException, OSError, RuntimeError),
    # aiormq, where a connection ends while it is being made.
    StopAsyncIteration,
)
"""Whatever aio-pika, aiormq and pamqp raise when the broker, the line or a channel fails.

OSError covers refused connections, TLS and timeouts; aiormq's RuntimeErrors say `closed`.
"""
DETAIL_CHARS_MAX = 300
"""A broker's text is for a log line, not for a page."""

VHOST_REFUSED = ("vhost", "['Connection.OpenOk'], got <Connection.Close")
"""A broker closes instead of opening a virtual host, and aiormq keeps the text to itself."""
VHOST_ADVICE = (
    "the broker refused the virtual host, which is the path of the bus URL (FLASHSALE_BUS_URL)"
)
LOGIN_ADVICE = "the login was refused, check user and password in the bus URL (FLASHSALE_BUS_URL)"
TLS_ADVICE = "TLS failed, check the scheme, the host and the file of authorities"
ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (ProbableAuthenticationError, LOGIN_ADVICE),
    (AuthenticationError, LOGIN_ADVICE),
    (ChannelAccessRefused, "the broker's user lacks a right"),
    (ChannelNotFoundEntity, "the topology is incomplete, `flashsale topics ensure` creates it"),
    (PublishError, "no queue is bound for it, `flashsale topics ensure` binds them"),
    (DeliveryError, "the queue refused to store it"),
    (ssl.SSLError, TLS_ADVICE),
    (TimeoutError, "no answer in time"),
    (asyncio.CancelledError, "the connection was lost"),
)
"""The first that fits tells what mends it; a class stands before its base."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what the driver raises inside into `Unavailable`; `doing` opens its detail.

    aiormq ends a closed channel's calls by raising CancelledError in tasks that nobody
    cancelled; such a one is a lost connection. A real cancellation goes on as it is.
    """
    try:
        yield
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise unavailable(exc, doing) from exc
    except DRIVER_ERRORS as exc:
        raise unavailable(exc, doing) from exc


def unavailable(exc: BaseException, doing: str) -> Unavailable:
    """Say what an error of the driver means, with the setting or the command that mends it."""
    was_refused = isinstance(exc, DeliveryError)
    return Unavailable(Why.BUS_AWAY, f"{doing}: {_meaning(exc)}", was_refused=was_refused)


def _meaning(exc: BaseException) -> str:
    text = " ".join(str(argument) for argument in exc.args if argument)[:DETAIL_CHARS_MAX]
    refused = isinstance(exc, (ConnectionNotAllowed, InvalidFrameError))
    if refused and any(sign in text for sign in VHOST_REFUSED):
        return VHOST_ADVICE
    for kind, advice in ADVICE:
        # aiormq wraps what the socket raised; the cause tells more.
        if isinstance(exc, kind) or isinstance(exc.__cause__, kind):
            return f"{advice}: {text}" if text else advice
    name = type(exc).__name__
    return f"{name}: {text}" if text else name
