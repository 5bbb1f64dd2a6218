"""How a request's body arrives: bounded in size and time, and perhaps never whole."""

import asyncio

from flashsale.http.parts import Receive

BODY_BYTES_MAX = 4096
"""A purchase with every field at its longest takes 1 KiB; the rest is room for white space."""
BODY_WAIT_S = 10.0
"""A phone on a bad line sends 4 KiB in this time; whoever takes longer holds a place."""


class Disconnected(Exception):
    """The client left before its request was whole; nobody waits for an answer."""


class TooSlow(Exception):
    """The body did not arrive in time."""


async def read_body(receive: Receive) -> bytes:
    """Read a body, at most one byte past the limit, so that the caller sees that it is too large.

    Raises Disconnected, and TooSlow after BODY_WAIT_S.
    """
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            body = b""
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                chunk: bytes = message.get("body", b"")
                body = body + chunk if body else chunk
                if not message.get("more_body", False):
                    return body[: BODY_BYTES_MAX + 1]
                if len(body) > BODY_BYTES_MAX:
                    return body[: BODY_BYTES_MAX + 1]
    except TimeoutError:
        raise TooSlow from None
