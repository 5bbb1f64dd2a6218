"""A message that kills every worker that decodes it: quarantined, and everybody else is served.

The killer is this test's own: a rule, named in the worker's settings, whose module replaces the
codec's decoding by one that ends the process at a marked body, as a segmentation fault would.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from flashsale_avro import AvroCodec
from flashsale_core.handling import KILLED_ITS_WORKER
from flashsale_core.retry import DEATHS_MAX
from tests.integration.crowds import connected, quiet_gate, settled_orders
from tests.integration.engine import Engine, Program, ask, buy_by_socket, engine, own_names
from tests.integration.outside import Sent, dead_letters, sender
from tests.integration.test_outside_door import request
from tests.servers import Kafka, Postgres, RabbitMQ, Redis

MARK = b"POISON \x00\xff\xc3\x01 that no decoder survives"
KILLER = '''
"""Ends the process that decodes a marked body."""

import os
import signal

from flashsale_avro import AvroCodec

MARK = b"POISON"
decode = AvroCodec.decode


async def deadly(self, messages):
    if any(MARK in (message.body or b"") for message in messages):
        with open(os.environ["KILLER_LOG"], "a") as log:
            log.write(f"{len(messages)}\\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return await decode(self, messages)


AvroCodec.decode = deadly


def admit(request, terms):
    return None
'''
QUIET_S = 200
"""Kafka waits for a dead member for 10 s, three times, on a machine that others use too."""
BUYERS = 12


@attrs.define
class Supervisor:
    """Begins the worker again whenever it died, as whoever runs it does."""

    engine: Engine
    log: Path
    deaths: int = 0
    worker: Program | None = None

    def start(self) -> Program:
        """Begin a worker with the killer inside."""
        folder = self.engine.folder
        (folder / "killer.py").write_text(KILLER)
        path = os.pathsep.join([str(folder), self.engine.env["PYTHONPATH"]])
        self.worker = self.engine.start(
            "worker", PYTHONPATH=path, FLASHSALE_RULES="killer:admit", KILLER_LOG=str(self.log)
        )
        return self.worker

    async def until_parked(self) -> None:
        """Restart it until the message is set aside."""
        worker, until = self.worker or self.start(), time.monotonic() + QUIET_S
        while not await self._is_parked():
            assert time.monotonic() < until, worker.log.read_text()[-3000:]
            if worker.process.poll() is not None:
                assert worker.process.returncode == -9, worker.log.read_text()[-3000:]
                self.deaths += 1
                assert self.deaths < 3 * DEATHS_MAX, "it never ends"
                worker = self.start()
            await asyncio.sleep(0.1)

    async def _is_parked(self) -> bool:
        async with connected(self.engine) as database:
            query = "SELECT count(*) FROM parked_messages WHERE status = 'DEAD'"
            return bool(await database.fetchval(query))

    @property
    def sizes(self) -> list[int]:
        """How many messages were decoded together at each death."""
        return [int(line) for line in self.log.read_text().split()]


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def stack(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: Redis, postgres_server: Postgres
) -> Iterator[Engine]:
    """One API; the worker is the supervisor's."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        ours.start("serve").wait_until_ready()
        assert ask("POST", f"{ours.doors[0]}/purchase/init?productId=1&stock=1000").status == 200
        yield ours


async def quarantined(ours: Engine) -> dict[str, object]:
    """Read the one message that was set aside, as an operator does."""
    letters = json.loads(ours.must("dead-letters", "list", "--json"))
    assert len(letters) == 1, letters
    [letter] = letters
    assert letter["reason"] == KILLED_ITS_WORKER
    async with connected(ours) as database:
        [row] = await database.fetch("SELECT body FROM parked_messages")
        assert bytes(row["body"]) == MARK
        assert await database.fetchval("SELECT count(*) FROM handling_notes") == 0
    assert await dead_letters(ours, 1) == [MARK]
    return dict(letter)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(400)
async def test_a_request_that_kills_its_worker_is_dead_after_the_third_death(
    stack: Engine, tmp_path: Path
) -> None:
    """Its neighbours at the outside door become orders, and not one of them is set aside."""
    codec, supervisor = AvroCodec(), Supervisor(stack, tmp_path / "deaths")
    wanted = [Sent(b"k", codec.encode(request(f"outside-{n}")).body) for n in range(BUYERS)]
    # RabbitMQ knows a message by its id and body; one key keeps them in one partition of Kafka's.
    async with sender(stack) as send:
        await send([*wanted[:5], Sent(b"k", MARK), *wanted[5:]])
    await supervisor.until_parked()
    assert await settled_orders(stack, BUYERS) == {"CONFIRMED": BUYERS}
    assert supervisor.deaths == DEATHS_MAX
    assert supervisor.sizes[1:] == [1] * (DEATHS_MAX - 1)
    assert supervisor.sizes[0] > 1
    letter = await quarantined(stack)
    assert (letter["channel"], letter["holdsUnit"]) == ("requests", False)
    assert (await quiet_gate(stack.doors[0]))["sold"] == BUYERS


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(400)
async def test_a_promise_that_kills_its_worker_raises_the_alarm_and_its_neighbours_are_orders(
    stack: Engine, tmp_path: Path
) -> None:
    """Whoever was answered ACCEPTED before and behind it has an order; a person hears of it."""
    [url] = stack.doors
    supervisor = Supervisor(stack, tmp_path / "deaths")

    async def buy(numbers: range) -> None:
        for n in numbers:
            answer = await buy_by_socket(url, {"userId": n, "productId": 1, "purchaseId": f"p{n}"})
            assert answer.status == 200

    await buy(range(6))
    async with sender(to_accepted(stack)) as send:
        await send([Sent(b"k", MARK)])
    await buy(range(6, BUYERS))
    await supervisor.until_parked()
    assert await settled_orders(stack, BUYERS) == {"CONFIRMED": BUYERS}
    assert supervisor.deaths == DEATHS_MAX
    letter = await quarantined(stack)
    assert (letter["channel"], letter["holdsUnit"]) == ("accepted", True)
    assert json.loads(stack.must("dead-letters", "list", "--holding", "--json")) == [letter]
    worker = supervisor.worker
    assert worker is not None
    await worker.says("alarm", "unit-parked")
    await gauge(worker, "flashsale_dead_letters_holding_unit_messages 1.0")
    stack.must("dead-letters", "discard", str(letter["id"]), "--why", "the decoder is mended")
    await gauge(worker, "flashsale_dead_letters_holding_unit_messages 0.0")
    gate = await quiet_gate(url)
    assert (gate["sold"], gate["available"]) == (BUYERS, 1000 - BUYERS)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(400)
async def test_a_killer_among_a_crowd_in_full_flow_ends_nobodys_sale(
    stack: Engine, tmp_path: Path
) -> None:
    """The first death cannot have been noted, as nothing was suspected: it comes on top."""
    codec, supervisor = AvroCodec(), Supervisor(stack, tmp_path / "deaths")
    worker = supervisor.start()
    worker.wait_until_ready()
    first = [Sent(b"k", codec.encode(request(f"early-{n}")).body) for n in range(BUYERS)]
    later = [Sent(b"k", codec.encode(request(f"late-{n}")).body) for n in range(BUYERS)]
    async with sender(stack) as send:
        await send(first)
        assert (await settled_orders(stack, BUYERS)).total() == BUYERS
        await send([*later[:5], Sent(b"k", MARK), *later[5:]])
    await supervisor.until_parked()
    assert await settled_orders(stack, 2 * BUYERS) == {"CONFIRMED": 2 * BUYERS}
    assert DEATHS_MAX <= supervisor.deaths <= DEATHS_MAX + 1
    await quarantined(stack)


def to_accepted(ours: Engine) -> Engine:
    """Let a sender write where only the engine should: on its own channel."""
    name = ours.settings["FLASHSALE_ACCEPTED_TOPIC"]
    if ours.settings["FLASHSALE_BUS_URL"].startswith("amqp"):
        name += ".0"
    return attrs.evolve(ours, settings={**ours.settings, "FLASHSALE_REQUESTS_TOPIC": name})


async def gauge(worker: Program, line: str) -> None:
    """Wait until a worker's metrics say so."""
    until = time.monotonic() + QUIET_S
    while True:
        text = (await asyncio.to_thread(ask, "GET", f"{worker.url}/metrics")).body["text"]
        if line in text:
            return
        assert time.monotonic() < until, text
        await asyncio.sleep(0.2)
