"""Buyers of an open model: each comes at a time that is his own, and waits from then on.

    python -m bench.open_model http://127.0.0.1:8080 --rate=5000 --buyers=100000 --first=1

The rate does not slow down with the answers: a buyer for whom no connection is free waits in the
row, and his wait counts (no coordinated omission). Runs in a process of its own and prints one
line of JSON: answers by status, latencies in milliseconds from the intended time, and who was
accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque
from typing import cast
from urllib.parse import urlsplit

import attrs
import uvloop
from hdrh.histogram import HdrHistogram

MICROSECONDS_MAX = 60_000_000
DIGITS = 3
OK = 200
TICK_S = 0.001
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
LAST_S_MAX = 20.0


@attrs.define(eq=False)
class Crowd:
    """Who came, who waits, and what was said."""

    host: bytes
    first: int
    row: deque[tuple[int, float]] = attrs.field(factory=deque)
    free: list[Client] = attrs.field(factory=list)
    answers: Counter[int] = attrs.field(factory=Counter)
    accepted: list[int] = attrs.field(factory=list)
    waits: HdrHistogram = attrs.field(factory=lambda: HdrHistogram(1, MICROSECONDS_MAX, DIGITS))

    def serve(self) -> None:
        """Give every free connection the next of the row."""
        while self.row and self.free:
            self.free.pop().buy(*self.row.popleft())

    def told(self, client: Client, user: int, status: int, meant: float) -> None:
        """Hear an answer."""
        micros = int((time.perf_counter() - meant) * 1_000_000)
        self.waits.record_value(min(max(micros, 1), MICROSECONDS_MAX))
        self.answers[status] += 1
        if status == OK:
            self.accepted.append(user)
        if self.row:
            client.buy(*self.row.popleft())
        else:
            self.free.append(client)


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, crowd: Crowd) -> None:
        """Belong to a crowd."""
        self._crowd = crowd
        self._transport: asyncio.Transport
        self._user, self._meant, self._is_waiting = 0, 0.0, False
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be free."""
        self._transport = cast("asyncio.Transport", transport)
        self._crowd.free.append(self)

    def buy(self, user: int, meant: float) -> None:
        """Send a purchase."""
        self._user, self._meant, self._is_waiting = user, meant, True
        body = b'{"userId":%d,"productId":1}' % user
        self._transport.write(
            b"POST /purchase/buy HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (self._crowd.host, len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        """Read an answer: its head, and as many bytes as that says."""
        self._read = self._read + data if self._read else data
        at = self._read.find(b"\r\n\r\n")
        if at < 0:
            return
        head = self._read[:at].lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r", 1)[0])
        if len(self._read) < at + 4 + length:
            return
        self._read, self._is_waiting = b"", False
        self._crowd.told(self, self._user, int(head[9:12]), self._meant)

    def connection_lost(self, _: Exception | None) -> None:
        """Count what is not answered any more; one that was idle for long is free no more."""
        if self._is_waiting:
            self._crowd.answers[0] += 1
        elif self in self._crowd.free:
            self._crowd.free.remove(self)


async def crowd_of(where: str, rate: float, buyers: int, first: int, clients: int) -> Crowd:
    """Let all of them come, and wait for the last answer."""
    parts = urlsplit(where)
    host, port = parts.hostname or "", parts.port or 80
    crowd = Crowd(parts.netloc.encode(), first)
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(crowd), host, port)
    began = time.perf_counter()
    came = 0
    while came < buyers:
        due = min(buyers, int((time.perf_counter() - began) * rate) + 1)
        for number in range(came, due):
            crowd.row.append((first + number, began + number / rate))
        came = due
        crowd.serve()
        await asyncio.sleep(TICK_S)
    until = time.perf_counter() + LAST_S_MAX
    while crowd.answers.total() < buyers and time.perf_counter() < until:  # noqa: ASYNC110
        await asyncio.sleep(TICK_S)
    return crowd


def main() -> None:
    """Run and tell."""
    words = argparse.ArgumentParser()
    words.add_argument("url")
    words.add_argument("--rate", type=float, required=True)
    words.add_argument("--buyers", type=int, required=True)
    words.add_argument("--first", type=int, default=1)
    words.add_argument("--clients", type=int, default=256)
    asked = words.parse_args()
    crowd = uvloop.run(crowd_of(asked.url, asked.rate, asked.buyers, asked.first, asked.clients))
    told = {
        "answers": {str(status): count for status, count in crowd.answers.items()},
        "milliseconds": {
            f"{p:g}": crowd.waits.get_value_at_percentile(p) / 1_000 for p in PERCENTILES
        },
        "accepted": crowd.accepted,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
