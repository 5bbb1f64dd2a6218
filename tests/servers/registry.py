"""Apicurio Registry by its Confluent API, on request behind basic auth."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import secrets
import threading
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import attrs

from tests.servers import launch, maven
from tests.servers.launch import HOST

IMAGE = f"apicurio/apicurio-registry-mem:{maven.REGISTRY_VERSION}"
API = "/apis/ccompat/v7"
HEALTH = "/health/ready"


@attrs.define(kw_only=True)
class Registry(launch.Server):
    """A schema registry; `url` is `http://127.0.0.1:PORT/apis/ccompat/v7`.

    With basic auth, `username` and `password` are what `url` demands.
    """

    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)

    @property
    def auth(self) -> str | None:
        """`username:password`, as FLASHSALE_SCHEMA_REGISTRY_AUTH takes it."""
        return f"{self.username}:{self.password}" if self.username else None


@contextlib.contextmanager
def running_registry(*, ours: bool = False, auth: bool = False) -> Iterator[Registry]:
    """Yield a running registry; `ours` starts one that the test may stop; `auth` guards it."""
    with launch.running(
        "registry", ours=ours, attach=attach, container=_container, local=_local
    ) as registry:
        if not auth:
            yield registry
            return
        username, password = "registry-user", secrets.token_urlsafe(12)
        with _guard(registry, f"{username}:{password}") as port:
            url = f"http://{HOST}:{port}{urlsplit(registry.url).path}"
            yield attrs.evolve(registry, url=url, username=username, password=password)


def attach(url: str, origin: str) -> Registry:
    """Describe a registry that somebody else runs."""
    return Registry(kind="registry", url=url, origin=origin)


def _container() -> Registry:
    port = launch.free_port()
    described = launch.container(IMAGE, 8080, port)
    runner = launch.Container(described, lambda: _ready(port))
    return Registry(kind="registry", url=_url(port), origin=f"container {IMAGE}", runner=runner)


def _local() -> Registry:
    java, jar = maven.java("registry"), maven.registry_jar()
    port, folder = launch.free_port(), launch.private_folder("registry")
    command = [
        java,
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        f"-Dquarkus.http.host={HOST}",
        f"-Dquarkus.http.port={port}",
        # In a file: a registry that forgot its ids over a restart would make topics unreadable.
        f"-DREGISTRY_DATASOURCE_URL=jdbc:h2:file:{folder}/registry",
        "-jar",
        str(jar),
    ]
    runner = launch.Daemon(command, ready=lambda: _ready(port), folder=folder)
    return Registry(kind="registry", url=_url(port), origin=str(jar.parent), runner=runner)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}{API}"


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", HEALTH)
        return connection.getresponse().status == http.HTTPStatus.OK
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def _guard(registry: Registry, credentials: str) -> Iterator[int]:
    """Demand basic auth on a port of our own and pass the rest on."""
    expected = "Basic " + base64.b64encode(credentials.encode()).decode()
    handler = type("Guard", (_Guard,), {"expected": expected, "behind": registry})
    server = http.server.ThreadingHTTPServer((HOST, launch.free_port()), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Guard(http.server.BaseHTTPRequestHandler):
    """Answer 401 without the right credentials, and what the registry says with them."""

    protocol_version = "HTTP/1.1"
    expected: ClassVar[str]
    behind: ClassVar[Registry]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = self.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), self.expected.encode()):
            self._send(401, b'{"error_code":401,"message":"Unauthorized"}', "application/json")
            return
        connection = http.client.HTTPConnection(self.behind.host, self.behind.port, timeout=10)
        try:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() in {"accept", "content-type"}
            }
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kind = answer.headers.get("Content-Type", "application/json")
            self._send(answer.status, answer.read(), kind)
        except OSError:
            self._send(502, b'{"error_code":502,"message":"Registry away"}', "application/json")
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  (http.server's names)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        if status == http.HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet: the tests' output is for the tests."""
