"""An open load of buyers: they come when they come, and repeat with one id until they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable

import attrs

from tests.faults.history import Answer, Asked, History, Put, Told
from tests.integration.engine import Engine
from tests.integration.outside import Sent, sender

ANSWER_S_MAX = 3.0
"""The engine answers within a second whatever is broken; this buyer waits for three."""
PATIENCE_S = 90.0
"""Longer than any fault of a drill, and its recovery."""
SLEEP_S_MAX = 2.0
AT_ONCE_MAX = 500
"""More who ask again and again would only try how much this machine can bear."""
TICK_S = 0.02
SEND_S_MAX = 5.0


def now_ms() -> int:
    """Tell UTC."""
    return time.time_ns() // 1_000_000


class Door:
    """One API, with connections that are kept."""

    def __init__(self, url: str) -> None:
        """Connect when first asked."""
        self.url = url
        host, _, port = url.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def buy(self, body: bytes) -> tuple[int, dict[str, object]]:
        """Ask once. Raises OSError, EOFError or TimeoutError for no answer."""
        async with asyncio.timeout(ANSWER_S_MAX):
            reader, writer = self._kept() or await asyncio.open_connection(self._host, self._port)
            try:
                writer.write(
                    b"POST /purchase/buy HTTP/1.1\r\nHost: drill\r\n"
                    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (len(body), body)
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                said = await reader.readexactly(length)
            except BaseException:
                writer.close()
                raise
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(None, 2)[1]), json.loads(said)

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Take a connection that is kept, unless its server has closed it meanwhile."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def connect(self) -> None:
        """Have one more connection ready."""
        self._idle.append(await asyncio.open_connection(self._host, self._port))

    def close(self) -> None:
        """Leave."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


@attrs.define
class Item:
    """What is on sale, and how much of the crowd wants it."""

    item_id: str
    units: int
    share: float
    users: int = 1_000_000
    per_user_limit: int | None = None
    price_minor: int = 0
    """0: free, and never charged."""

    @property
    def sale_id(self) -> str:
        """Name its first sale."""
        return f"{self.item_id}.1"


@attrs.define
class Load:
    """Buyers at a steady rate, at whichever doors there are."""

    history: History
    items: list[Item]
    doors: Callable[[], list[str]]
    dice: random.Random
    name: str
    tasks: set[asyncio.Task[None]] = attrs.field(factory=set)
    accepted: int = 0
    asked: int = 0
    _known: dict[str, Door] = attrs.field(factory=dict)

    async def come(self, rate: float, until: asyncio.Event) -> None:
        """Let buyers come until told to stop; each then goes on until it has its answer.

        While too many wait for their answers nobody comes; the rest come later, twice as quickly.
        """
        began, already = time.monotonic(), self.asked
        while not until.is_set():
            due = already + (time.monotonic() - began) * rate
            for _ in range(1 + int(2 * rate * TICK_S)):
                if self.asked < due and len(self.tasks) < AT_ONCE_MAX:
                    self._one()
            await asyncio.sleep(TICK_S)

    async def all_told(self) -> None:
        """Wait until nobody asks any more."""
        while self.tasks:
            await asyncio.wait(self.tasks)
        for door in self._known.values():
            door.close()

    def _one(self) -> None:
        self.asked += 1
        [item] = self.dice.choices(self.items, [one.share for one in self.items])
        user = f"u{self.dice.randrange(item.users)}"
        asked = self.history.ask(Asked(f"{self.name}-{self.asked}", user, item.sale_id))
        task = asyncio.create_task(self._buyer(asked, item.item_id))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _buyer(self, asked: Asked, item_id: str) -> None:
        wanted = {"userId": asked.user_id, "productId": item_id, "purchaseId": asked.purchase_id}
        if any(item.item_id == item_id and item.price_minor for item in self.items):
            # One in ten is declined, and one in ten takes its time.
            kind = {0: "declined", 5: "slow"}.get(int(asked.purchase_id[-1:], 36) % 10, "tok")
            wanted["paymentToken"] = f"{kind}-{asked.purchase_id}"
        body = json.dumps(wanted).encode()
        until, attempt = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < until:
            answer = await self._ask(body)
            asked.answers.append(answer)
            if answer.told is not Told.UNKNOWN:
                self.accepted += answer.told is Told.OK
                return
            attempt += 1
            await asyncio.sleep(min(0.05 * 2**attempt, SLEEP_S_MAX) * self.dice.uniform(0.5, 1.0))

    async def _ask(self, body: bytes) -> Answer:
        url = self.dice.choice(self.doors())
        door = self._known.setdefault(url, Door(url))
        try:
            status, said = await door.buy(body)
        except (TimeoutError, OSError, EOFError, ValueError, IndexError) as nothing:
            return Answer(Told.UNKNOWN, type(nothing).__name__, now_ms())
        if status == 200:
            return Answer(Told.OK, "accepted", now_ms())
        code = str(said.get("type", status)).rpartition(":")[2]
        told = Told.UNKNOWN if status >= 500 else Told.REFUSED
        return Answer(told, code, now_ms())


@attrs.define
class Outsiders:
    """Another service at the topic: requests of its own, the same again, and noise."""

    history: History
    engine: Engine
    item: Item
    encode: Callable[[str, str, str], bytes]
    name: str
    has_keys: bool
    sent: int = 0

    async def come(self, every_s: float, until: asyncio.Event) -> None:
        """Send until told to stop; a broker that is away is tried again."""
        while not until.is_set():
            with contextlib.suppress(Exception):
                async with asyncio.timeout(SEND_S_MAX), sender(self.engine) as send:
                    pass
                async with sender(self.engine) as send:
                    while not until.is_set():
                        await self._one(send)
                        await asyncio.sleep(every_s)
            await asyncio.sleep(every_s)

    async def _one(self, send: Callable[[list[Sent]], object]) -> None:
        self.sent += 1
        number = self.sent
        if number % 10 == 0:
            put = Put(f"noise {self.name} {number}".encode(), self._key(number))
        else:
            # Each third comes twice.
            purchase, user = f"{self.name}-{number}", f"o{number}"
            body = self.encode(purchase, user, self.item.item_id)
            put = Put(body, self._key(number), purchase, self.item.sale_id, user)
        for _ in range(2 if number % 3 == 0 and number % 10 else 1):
            at = len(self.history.put)
            self.history.put.append(attrs.evolve(put, is_sure=False))
            async with asyncio.timeout(SEND_S_MAX):
                await send([Sent(put.key or f"k{number}".encode(), put.body)])  # type: ignore[misc]
            self.history.put[at] = put

    def _key(self, number: int) -> bytes | None:
        return f"k{number}".encode() if self.has_keys else None
