"""Who only looks hears in time: a GET whose answer takes too long is 503, whatever hangs below."""

import asyncio

from flashsale.http import problems
from flashsale.http.buy import send_answer
from flashsale.http.parts import ASGIApp, ASGIMessage, Receive, Scope, Send
from flashsale.http.problems import problem, retry_after
from flashsale_coalesce import Bounds
from flashsale_core.errors import Why

RETRY_MS = 1_000


class Timely:
    """Bounds the time until the answer to a GET begins; how long it then takes is the reader's.

    The gate has deadlines of its own that are far shorter, so what keeps silent is the database.
    Nothing else is cut off: who writes must be told how it ended.
    """

    def __init__(self, inner: ASGIApp, deadline_ms: int) -> None:
        """Stand before an application."""
        self._inner = inner
        self._deadline_s = deadline_ms / 1_000
        self._bounds = Bounds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._inner(scope, receive, send)
            return
        began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        is_given_up = False

        async def send_in_time(message: ASGIMessage) -> None:
            if not began.done():
                began.set_result(None)
            if not is_given_up:
                await send(message)

        answering = asyncio.ensure_future(self._inner(scope, receive, send_in_time))
        if await self._bounds.first_of(answering, began, seconds=self._deadline_s):
            await answering
            return
        is_given_up = True
        silence = Why.DATABASE_AWAY.value
        late = problem(problems.UNAVAILABLE, headers=retry_after(RETRY_MS), reason=silence)
        await send_answer(late, send)
