"""The engine as an ASGI application inside another: opened and closed by the host's lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flashsale.container import Embedded, HttpApi
from flashsale.http import ASGIApp
from flashsale.http.parts import Receive, Scope, Send
from flashsale.running import batching, begin, going, looping, opened
from flashsale.settings import Entrypoint, Settings
from flashsale.settings_loading import check, load_settings


class MountedApp:
    """An ASGI application that owns what it opens.

    On a memory bus it runs the worker too, as `flashsale run` does: nobody else could. On a
    broker it is the HTTP door alone, as `flashsale serve` is.
    """

    def __init__(self, settings: Settings | None = None, *, mounted_at: str = "") -> None:
        """Read or check the settings; open nothing yet."""
        if settings is None:
            settings = load_settings(Entrypoint.RUN)
        self._settings = settings
        self._has_worker = settings.bus_url.is_memory
        check(settings, Entrypoint.RUN if self._has_worker else Entrypoint.SERVE)
        self._app: ASGIApp | None = None
        self._mounted_at = mounted_at.rstrip("/")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open everything, serve inside, close everything: enter this in the host's lifespan."""
        opening = self._opened_both() if self._has_worker else self._opened_door()
        async with opening as app:
            self._app = app
            try:
                yield
            finally:
                self._app = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or be opened and closed by a lifespan of its own."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is None:
            message = "enter this application's opened() in the host's lifespan: hosts do not tell"
            raise RuntimeError(f"{message} mounted applications that they start")
        else:
            if not scope.get("root_path"):
                scope = {**scope, "root_path": self._mounted_at}
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Keep the server's lifespan protocol: whatever fails is told in its terms, and raised."""
        await receive()
        phase = "startup"
        try:
            async with self.opened():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as exc:
            await send({"type": f"lifespan.{phase}.failed", "message": str(exc)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _opened_both(self) -> AsyncIterator[ASGIApp]:
        async with (
            opened(Embedded, self._settings, may_install=True) as container,
            going(container),
        ):
            yield container.http_app()

    @asynccontextmanager
    async def _opened_door(self) -> AsyncIterator[ASGIApp]:
        async with (
            opened(HttpApi, self._settings, may_install=False) as container,
            batching(container),
        ):
            await begin(container)
            async with looping(container):
                yield container.http_app()
