"""One purchase through each door, on either bus, to PostgreSQL and out again as an event."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

import aio_pika
import attrs
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from flashsale_avro import AvroCodec
from flashsale_core.events import Channel, Message, OrderEvent, OrderEventType
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.crowds import connected, orders, quiet_gate, settled_orders
from tests.integration.engine import Answer, Engine, Program, ask, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis

WAIT_S = 30.0
# Whichever test comes first starts a broker and seven processes.
pytestmark = pytest.mark.timeout(240)


class Outsider(Protocol):
    """Another service at the broker: it asks for units, and hears what became of them."""

    async def put(self, body: bytes) -> None:
        """Put a message on the outside door."""

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Read the messages of a topic or queue, one after the other."""


@attrs.define
class KafkaOutsider:
    """One on Kafka."""

    settings: dict[str, str]

    @property
    def _bootstrap(self) -> str:
        return self.settings["FLASHSALE_BUS_URL"].removeprefix("kafka://")

    async def put(self, body: bytes) -> None:
        """Send it, confirmed."""
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap) as producer:
            await producer.send_and_wait(self.settings["FLASHSALE_REQUESTS_TOPIC"], body, key=b"k")

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Consume from the earliest offset."""
        async with AIOKafkaConsumer(
            name, bootstrap_servers=self._bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            async for record in consumer:
                yield record.value


@attrs.define
class RabbitMQOutsider:
    """One on RabbitMQ."""

    settings: dict[str, str]

    async def put(self, body: bytes) -> None:
        """Publish it to the exchange, confirmed."""
        async with self._channel() as channel:
            exchange = await channel.get_exchange(self.settings["FLASHSALE_EXCHANGE"], ensure=False)
            await exchange.publish(
                aio_pika.Message(body, content_type="application/avro"),
                routing_key=self.settings["FLASHSALE_REQUESTS_TOPIC"],
            )

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Take them from the queue."""
        async with self._channel() as channel:
            queue = await channel.get_queue(name, ensure=False)
            async with queue.iterator(no_ack=True) as messages:
                async for message in messages:
                    yield message.body

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        url = self.settings["FLASHSALE_BUS_URL"]
        async with (
            await aio_pika.connect(url) as connection,
            connection.channel(on_return_raises=True) as channel,
        ):
            yield channel


@attrs.define
class Stack:
    """An engine of one API and one worker on real servers, and an outsider."""

    engine: Engine
    outsider: Outsider

    @property
    def door(self) -> str:
        """Name the API."""
        return self.engine.doors[0]

    @property
    def worker(self) -> Program:
        """Name the worker that was started last."""
        return [program for program in self.engine.programs if program.is_worker][-1]

    def sell(self, units: int) -> str:
        """Open a sale of an item that no other test knows; answer the item."""
        item = uuid.uuid4().hex[:8]
        opened = ask("POST", f"{self.door}/purchase/init?productId={item}&stock={units}")
        assert opened.status == 200, opened
        return item

    def buy(self, item: str, user: int = 101, **fields: object) -> Answer:
        """Buy over HTTP."""
        body = {"userId": user, "productId": item, **fields}
        return ask("POST", f"{self.door}/purchase/buy", body)

    async def ask_from_outside(self, item: str, purchase: str, user: str = "102") -> None:
        """Ask as another service does."""
        wanted = PurchaseRequest(
            purchase_id=PurchaseId(purchase),
            user_id=UserId(user),
            item_id=ItemId(item),
            requested_at_ms=1_700_000_000_000,
        )
        await self.outsider.put(AvroCodec().encode(wanted).body)

    async def hear(self, purchases: Collection[str]) -> dict[str, OrderEvent]:
        """Listen to the events until each of these purchases was spoken of."""
        heard: dict[str, OrderEvent] = {}
        topic = self.engine.settings["FLASHSALE_ORDERS_TOPIC"]
        async with asyncio.timeout(WAIT_S), aclosing(self.outsider.read(topic)) as bodies:
            async for body in bodies:
                message = Message(
                    channel=Channel.ORDERS, body=body, origin="", content_type="application/avro"
                )
                [fact] = await AvroCodec().decode([message])
                assert isinstance(fact, OrderEvent)
                heard[fact.purchase_id] = fact
                if heard.keys() >= set(purchases):
                    return heard
        raise AssertionError(heard)


OUTSIDERS: dict[str, type[KafkaOutsider | RabbitMQOutsider]] = {
    "kafka": KafkaOutsider,
    "rabbitmq": RabbitMQOutsider,
}


@pytest.fixture(scope="module", params=sorted(OUTSIDERS))
def stack(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: Redis,
    postgres_server: Postgres,
) -> Iterator[Stack]:
    """Names of its own on every server; refused first, then prepared and started."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    database = postgres_server.create_database()
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": database,
        "FLASHSALE_START_TIMEOUT_MS": "5000",
    }
    with engine(tmp_path_factory.mktemp("engine"), settings) as ours:
        early = [ours.start("serve"), ours.start("worker")]
        _refused_with_both_commands(early)
        ours.programs.clear()
        ours.prepare()
        ours.start("serve")
        ours.start("worker")
        for program in ours.programs:
            program.wait_until_ready()
        yield Stack(ours, OUTSIDERS[request.param](settings))
    postgres_server.drop_database(database)


def _refused_with_both_commands(programs: list[Program]) -> None:
    """See that nothing starts without tables and topology, and that it says what makes them."""
    for program in programs:
        assert program.process.wait(60) == 1
        said = program.log.read_text()
        assert "flashsale db upgrade" in said
        assert "flashsale topics ensure" in said
        assert "Traceback" not in said


async def test_both_doors_sell_one_stock_and_tell_what_became_of_each(stack: Stack) -> None:
    """HTTP takes one unit, another service the other; the third is refused at each door."""
    item = stack.sell(2)
    bought = stack.buy(item)
    assert (bought.status, bought.body["status"]) == (200, "ACCEPTED")
    over_http = bought.body["purchaseId"]
    outside, late = f"outside-{item}", f"late-{item}"
    await stack.ask_from_outside(item, outside)
    assert await settled_orders(stack.engine, 2, f"{item}.1") == {"CONFIRMED": 2}
    for purchase in (over_http, outside):
        found = ask("GET", f"{stack.door}/purchase/{purchase}")
        assert (found.status, found.body["status"]) == (200, "CONFIRMED")
    refused = stack.buy(item, user=103)
    assert (refused.status, refused.body["type"].rpartition(":")[2]) == (429, "sold-out")
    await stack.ask_from_outside(item, late)
    assert await settled_orders(stack.engine, 3, f"{item}.1") == {"CONFIRMED": 2, "REJECTED": 1}
    told = await stack.hear([over_http, outside, late])
    assert told[over_http].type is OrderEventType.ORDER_CREATED
    assert told[outside].type is OrderEventType.ORDER_CREATED
    assert told[late].type is OrderEventType.PURCHASE_REJECTED
    assert told[late].reason == "SOLD_OUT"
    gate = await quiet_gate(stack.door, f"{item}.1")
    assert (gate["available"], gate["sold"]) == (0, 2)


async def test_what_never_will_succeed_is_set_aside_and_its_neighbours_go_on(
    stack: Stack,
) -> None:
    """Original bytes in the table and at the broker; the next message is an order."""
    item = stack.sell(1)
    nonsense = f"\x00no such bytes {item}".encode()
    await stack.outsider.put(nonsense)
    await stack.ask_from_outside(item, f"neighbour-{item}")
    assert await settled_orders(stack.engine, 1, f"{item}.1") == {"CONFIRMED": 1}
    async with asyncio.timeout(WAIT_S):
        topic = stack.engine.settings["FLASHSALE_DEAD_LETTER_TOPIC"]
        async with aclosing(stack.outsider.read(topic)) as bodies:
            assert await anext(bodies) == nonsense
    async with connected(stack.engine) as database:
        [row] = await database.fetch("SELECT status, body FROM parked_messages")
    assert (row["status"], row["body"]) == ("DEAD", nonsense)


async def test_the_same_message_twice_and_once_more_over_http_is_one_purchase(
    stack: Stack,
) -> None:
    """Whoever asks again gets the old answer, by whichever door."""
    item, purchase = stack.sell(2), f"one-{uuid.uuid4().hex[:8]}"
    await stack.ask_from_outside(item, purchase, user="101")
    await stack.ask_from_outside(item, purchase, user="101")
    assert await settled_orders(stack.engine, 1, f"{item}.1") == {"CONFIRMED": 1}
    gate = await quiet_gate(stack.door, f"{item}.1")
    assert (gate["available"], gate["sold"]) == (1, 1)
    again = stack.buy(item, purchaseId=purchase)
    assert (again.status, again.body["status"]) == (200, "CONFIRMED")
    assert stack.buy(item, user=102, purchaseId=purchase).status == 422


async def test_a_worker_stops_well_and_what_is_accepted_meanwhile_is_an_order(
    stack: Stack,
) -> None:
    """SIGTERM ends it with 0; the door accepts without it, and the next worker does the work."""
    item, worker = stack.sell(1), stack.worker
    assert worker.stop() == 0
    assert "Traceback" not in worker.log.read_text()
    assert stack.buy(item).status == 200
    assert await orders(stack.engine, f"{item}.1") == {}
    stack.engine.start("worker").wait_until_ready()
    assert await settled_orders(stack.engine, 1, f"{item}.1") == {"CONFIRMED": 1}


async def test_a_worker_that_is_killed_in_the_middle_loses_nothing(stack: Stack) -> None:
    """What it held comes again to the next one."""
    item, worker = stack.sell(2), stack.worker
    worker.process.send_signal(signal.SIGSTOP)
    assert [stack.buy(item, user=n).status for n in (1, 2)] == [200, 200]
    worker.kill()
    stack.engine.start("worker").wait_until_ready()
    assert await settled_orders(stack.engine, 2, f"{item}.1") == {"CONFIRMED": 2}
    gate = await quiet_gate(stack.door, f"{item}.1")
    assert (gate["available"], gate["sold"]) == (0, 2)
