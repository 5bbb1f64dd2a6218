"""Flashsale: a flash-sale purchase engine. This package is the application around its core."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flashsale.mounting import MountedApp
    from flashsale.settings import Settings


def asgi_app(settings: "Settings | None" = None) -> "MountedApp":
    """Make the engine an ASGI application that mounts into another; docs/mounting.md shows how.

    Without `settings` they are read as `flashsale run` reads them. Nothing is opened before the
    application's `opened()`, or an ASGI lifespan, is entered. Raises SettingsError.
    """
    from flashsale.mounting import MountedApp  # noqa: PLC0415 - importing flashsale needs no extra

    return MountedApp(settings)


__all__ = ["asgi_app"]
