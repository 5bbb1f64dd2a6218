"""Redis, with everything that it is told written to disk."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path

from tests.servers import launch
from tests.servers.launch import HOST

IMAGE = "redis:7.4"
# The gate's books must survive a restart and must never be evicted.
SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    # A title is written over the environment, by whose mark the keeper knows its own.
    "set-proc-title": "no",
}


class Redis(launch.Server):
    """A Redis server; `url` is `redis://127.0.0.1:PORT/0`."""


def running_redis(
    *, ours: bool = False, folder: Path | None = None
) -> AbstractContextManager[Redis]:
    """Yield a running Redis; `ours` starts a fresh one that the test may stop and kill.

    `folder` is where a local one keeps everything; the caller made it, and removes it.
    """
    return launch.running(
        "redis",
        ours=ours,
        attach=attach,
        container=_container,
        local=functools.partial(_local, folder),
    )


def attach(url: str, origin: str) -> Redis:
    """Describe a Redis that somebody else runs."""
    return Redis(kind="redis", url=url, origin=origin)


def _container() -> Redis:
    port = launch.free_port()
    described = launch.container(IMAGE, 6379, port).with_command(["redis-server", *_arguments()])
    runner = launch.Container(described, lambda: _ready(port))
    return Redis(kind="redis", url=_url(port), origin=f"container {IMAGE}", runner=runner)


def _local(given: Path | None = None) -> Redis:
    binary = launch.program("redis", ["redis-server", "valkey-server"], "redis-server")
    port, folder = launch.free_port(), given or launch.private_folder("redis")
    command = [binary, "--bind", HOST, "--port", str(port), "--dir", str(folder), *_arguments()]
    runner = launch.Daemon(command, ready=lambda: _ready(port), folder=folder)
    return Redis(kind="redis", url=_url(port), origin=binary, runner=runner)


def _arguments() -> list[str]:
    return [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]


def _url(port: int) -> str:
    return f"redis://{HOST}:{port}/0"


def _ready(port: int) -> bool:
    return launch.answers(port, b"PING\r\n", b"+PONG")
