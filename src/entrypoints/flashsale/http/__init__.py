"""The HTTP door: one ASGI application, and a server that runs it in the caller's event loop."""

from flashsale.http.app import http_app
from flashsale.http.parts import ASGIApp, Dependency, HttpParts, Readiness, ReadinessProbe
from flashsale.http.server import Server, serve

__all__ = [
    "ASGIApp",
    "Dependency",
    "HttpParts",
    "Readiness",
    "ReadinessProbe",
    "Server",
    "http_app",
    "serve",
]
