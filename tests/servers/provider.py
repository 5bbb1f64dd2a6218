"""A payment provider: a process of its own, with a ledger by key and the manners of a bad day.

    with running_provider(drops_one_in=3) as provider:
        provider.url            # what FLASHSALE_PAYMENT_URL names
        provider.ledger()       # every key: how it stands, how often it was charged and asked

It charges and then DROPS the reply for one call in `drops_one_in`. A payment token that begins
with a word of `Treatment` is declined, in progress, lost once, refused, or answered 500 first. The
ledger is a file's, so that a killed provider forgets nothing; what is asked of it is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sqlite3
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.servers import launch
from tests.servers.launch import HOST

ROOT = Path(__file__).resolve().parents[2]
IN_PROGRESS_LOOKS = 2
"""So often a slow charge is looked up before it is charged."""
TABLE = """
create table if not exists ledger (
    key text primary key, state text, reference text, amount integer, currency text,
    about text, charges integer default 0, posts integer default 0, gets integer default 0,
    authorization text, traceparent text
)
"""


class Ledger:
    """What was charged, by key; one at a time, durable before it is answered."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._lock = threading.Lock()
        self._rows = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._rows.execute("pragma journal_mode = wal")
        self._rows.execute(TABLE)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._rows.close()

    def post(
        self, key: str, asked: dict[str, Any], authorization: str, traceparent: str | None
    ) -> tuple[str, str, int]:
        """Charge a key once; say how it stands, its reference, and how often it was asked."""
        with self._lock:
            self._rows.execute(
                "insert or ignore into ledger (key, amount, currency, about) values (?, ?, ?, ?)",
                (key, asked["amount"], asked["currency"], asked["reference"]),
            )
            self._rows.execute(
                "update ledger set posts = posts + 1, authorization = ?, traceparent = ?"
                " where key = ?",
                (authorization, traceparent, key),
            )
            state, reference, posts = self._one(key)
            if state is None:
                state, reference = self._first(key, asked["paymentToken"] or "")
            return state, reference or "", posts

    def _first(self, key: str, token: str) -> tuple[str, str]:
        if token.startswith("declined"):
            state = "declined"
        elif token.startswith("slow"):
            state = "in-progress"
        else:
            state = "charged"
        return self._end(key, state)

    def _end(self, key: str, state: str) -> tuple[str, str]:
        reference = f"ch_{key}"
        charges = "charges + 1" if state == "charged" else "charges"
        self._rows.execute(
            f"update ledger set state = ?, reference = ?, charges = {charges} where key = ?",
            (state, reference, key),
        )
        return state, reference

    def get(self, key: str) -> tuple[str, str] | None:
        """Say how a key stands; a slow one ends when it was looked at often enough."""
        with self._lock:
            self._rows.execute("update ledger set gets = gets + 1 where key = ?", (key,))
            found = self._rows.execute(
                "select state, reference, gets from ledger where key = ?", (key,)
            ).fetchone()
            if found is None or found[0] is None:
                return None
            if found[0] == "in-progress" and found[2] >= IN_PROGRESS_LOOKS:
                return self._end(key, "charged")
            return found[0], found[1]

    def _one(self, key: str) -> tuple[str | None, str | None, int]:
        row: tuple[str | None, str | None, int] = self._rows.execute(
            "select state, reference, posts from ledger where key = ?", (key,)
        ).fetchone()
        return row

    def all(self) -> list[dict[str, Any]]:
        """List everything."""
        with self._lock:
            rows = self._rows.execute("select * from ledger order by key")
            names = [column[0] for column in rows.description]
            return [dict(zip(names, row, strict=True)) for row in rows]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    ledger: Ledger
    drops_one_in: int
    dice = random.Random(4)

    def do_POST(self) -> None:
        """Charge."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        token = asked["paymentToken"] or ""
        if token.startswith("broken"):
            self._answer(422, {"error": f"bad token {token}"})
            return
        if token.startswith("unavailable") and self.dice.random() < 0.5:
            self._answer(503, {"error": "busy"})
            return
        state, reference, posts = self.ledger.post(
            self.headers["idempotency-key"],
            asked,
            self.headers.get("authorization", ""),
            self.headers.get("traceparent"),
        )
        is_unlucky = self.drops_one_in and self.dice.randrange(self.drops_one_in) == 0
        if is_unlucky or (token.startswith("lost") and posts == 1):
            self._drop()
        else:
            self._say(state, reference)

    def do_GET(self) -> None:
        """Look a key up; `/ledger` lists them all."""
        if self.path == "/ledger":
            self._answer(200, self.ledger.all())
            return
        found = self.ledger.get(self.path.rpartition("/")[2])
        if found is None:
            self._answer(404, {})
        else:
            self._say(*found)

    def _say(self, state: str, reference: str) -> None:
        if state == "declined":
            self._answer(402, {"status": "declined", "reason": "card-declined"})
        elif state == "in-progress":
            self._answer(409, {"status": "in-progress"})
        else:
            self._answer(200, {"status": state, "reference": reference})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _drop(self) -> None:
        """Close without a word: the charge was made."""
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
        """Say nothing."""


class Provider(launch.Server):
    """A provider; `url` is where charges are posted."""

    def ledger(self) -> list[dict[str, Any]]:
        """List all that was asked of it, by key."""
        with urllib.request.urlopen(f"http://{self.host}:{self.port}/ledger", timeout=10) as reply:
            rows: list[dict[str, Any]] = json.load(reply)
            return rows


@contextlib.contextmanager
def running_provider(*, drops_one_in: int = 0) -> Iterator[Provider]:
    """Have a provider of one's own; stop, kill and freeze keep its port and its ledger."""
    port, folder = launch.free_port(), launch.private_folder("provider")
    command = [
        *(sys.executable, "-m", "tests.servers.provider"),
        *("--port", str(port), "--ledger", str(folder / "ledger.db")),
        *("--drops-one-in", str(drops_one_in)),
    ]
    runner = launch.Daemon(
        command,
        ready=lambda: launch.answers(port, b"GET /none HTTP/1.0\r\n\r\n", b"HTTP/1"),
        folder=folder,
        environment={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    provider = Provider(
        kind="provider", url=f"http://{HOST}:{port}/charges", origin="ours", runner=runner
    )
    runner.start()
    try:
        yield provider
    finally:
        runner.thaw()
        runner.stop()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--drops-one-in", type=int, default=0)
    given = parser.parse_args()
    Handler.ledger = Ledger(given.ledger)
    Handler.drops_one_in = given.drops_one_in
    server = ThreadingHTTPServer((HOST, given.port), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        time.sleep(3_600)


if __name__ == "__main__":
    main()
