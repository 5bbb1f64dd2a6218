"""A constant answer by the same server: what HTTP costs before anything is done.

python -m bench.baselines.constant PORT
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import uvloop

from flashsale.collector import calm_collector
from flashsale.http import problems
from flashsale.http.asking import read_body
from flashsale.http.parts import Receive, Scope, Send
from flashsale.http.problems import problem
from flashsale.http.server import serve
from tests.servers.launch import free_port

ANSWER = problem(problems.SOLD_OUT, available=0)
START_S_MAX = 20.0


@attrs.frozen
class Constant:
    """Where it is."""

    url: str
    pid: int


async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI
    """Read the request and say the same to everybody."""
    await read_body(receive)
    await send({"type": "http.response.start", "status": ANSWER.status, "headers": ANSWER.headers})
    await send({"type": "http.response.body", "body": ANSWER.body})


@contextmanager
def serving_constant() -> Iterator[Constant]:
    """Have it run in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", __name__, str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield Constant(url, process.pid)
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    until = time.monotonic() + START_S_MAX
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


async def _main(port: int) -> None:
    calm_collector()
    await serve(app, host="127.0.0.1", port=port, drain_s=1.0, stopping=asyncio.Event())


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
