"""Flashsale: a flash-sale purchase engine. This package is the application around its core."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flashsale.mounting import MountedApp
    from flashsale.settings import Settings


def asgi_app(settings: "Settings | None" = None, *, mounted_at: str = "") -> "MountedApp":
    """Make the engine an ASGI application that mounts into another; docs/mounting.md shows how.

    Without `settings` they are read as `flashsale run` reads them. `mounted_at` is the prefix under
    a host that does not tell it (`root_path`), so that links lead back here. Nothing is opened
    before the application's `opened()`, or an ASGI lifespan, is entered. Raises SettingsError.
    """
    from flashsale.mounting import MountedApp  # noqa: PLC0415 - importing flashsale needs no extra

    return MountedApp(settings, mounted_at=mounted_at)


__all__ = ["asgi_app"]
