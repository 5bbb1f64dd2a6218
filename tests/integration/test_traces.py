"""One purchase is one connected trace through every process, on either bus, and paid for.

Real processes on real servers send their spans to a collector that decodes them as any backend of
OpenTelemetry does; what is asserted is the tree that a person would look at.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aio_pika
import attrs
import pytest
from aiokafka import AIOKafkaConsumer

from tests.integration.crowds import crowd
from tests.integration.engine import Program, ask, engine
from tests.integration.paying import Shop, shop
from tests.servers import Kafka, Postgres, RabbitMQ, Redis
from tests.servers.collector import Collector, Seen, running_collector
from tests.servers.provider import Provider, running_provider

CALLER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_SPAN = "00f067aa0ba902b7"
CALLER = f"00-{CALLER_TRACE}-{CALLER_SPAN}-01"
API, WORKER = "flashsale-api", "flashsale-worker"
# Whichever test comes first starts a broker and several processes.
pytestmark = pytest.mark.timeout(240)


@attrs.define
class Words:
    """What a bus calls its things."""

    system: str
    send: str
    accepted: str
    orders: str
    settings: dict[str, str]

    @property
    def sending(self) -> str:
        """Name the span that sends promises."""
        return f"{self.send} {self.accepted}"

    @property
    def telling(self) -> str:
        """Name the span that sends events."""
        return f"{self.send} {self.orders}"

    @property
    def processing(self) -> str:
        """Name the span that takes promises."""
        return f"process {self.accepted}"


@pytest.fixture(scope="module", params=["kafka", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """Name each broker in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def collector(broker: str) -> Iterator[Collector]:
    """Have one for all processes on that broker."""
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """Have a provider that loses no reply."""
    with running_provider() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    broker: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: Redis,
    postgres_server: Postgres,
    provider: Provider,
    collector: Collector,
) -> Iterator[Shop]:
    """An API and a worker that are traced, with a payment gateway, and a sale of a hundred."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{broker}_server")
    folder = tmp_path_factory.mktemp("traced")
    servers, more = (bus, redis_server, postgres_server, provider), collector.environment()
    with shop(folder, *servers, "serve", "worker", more=more) as ours:
        ours.open(100)
        yield ours


@pytest.fixture
def words(traced: Shop) -> Words:
    """Say what the bus of this run calls its things."""
    settings = traced.engine.settings
    is_kafka = settings["FLASHSALE_BUS_URL"].startswith("kafka")
    return Words(
        system="kafka" if is_kafka else "rabbitmq",
        send="send" if is_kafka else "publish",
        accepted=settings["FLASHSALE_ACCEPTED_TOPIC"],
        orders=settings["FLASHSALE_ORDERS_TOPIC"],
        settings=settings,
    )


def bought(traced: Shop, purchase: str, **headers: str) -> None:
    """Buy over HTTP, and be told ACCEPTED."""
    body = {"userId": purchase, "productId": 1, "purchaseId": purchase, "paymentToken": "tok"}
    answer = ask("POST", f"{traced.door}/purchase/buy", body, headers=headers)
    assert answer.status == 200, answer


def own(spans: Sequence[Seen], purchase: str, name: str) -> Seen:
    """Find a purchase's only span of a name."""
    found = [one for one in spans if one.purchase == purchase and one.name == name]
    assert len(found) == 1, (name, found)
    return found[0]


def is_whole(spans: Sequence[Seen], purchase: str, words: Words) -> bool:
    """Say whether the last spans of a purchase have come: its event, its payment, its answer."""
    names = [one.name for one in spans if one.purchase == purchase]
    traces = {one.trace_id for one in spans if one.purchase == purchase}
    answered = [one for one in spans if one.is_server and one.trace_id in traces]
    ends = words.telling in names and "pay" in names and names.count("FCALL follow") > 0
    return bool(answered) and ends


async def whole(collector: Collector, words: Words, *purchases: str) -> list[Seen]:
    """Wait until the traces of these purchases have come, of all processes."""

    def have_come(spans: list[Seen]) -> bool:
        return all(is_whole(spans, purchase, words) for purchase in purchases)

    return await asyncio.to_thread(collector.until, have_come)


async def test_one_purchase_is_one_trace_through_every_process(
    traced: Shop, collector: Collector, words: Words
) -> None:
    """HTTP, gate, bus, worker, gate, database, payment, gate, event: each below what led to it."""
    purchase = f"one-{uuid.uuid4().hex[:8]}"
    bought(traced, purchase, traceparent=CALLER)
    spans = [
        one
        for one in await whole(collector, words, purchase)
        if one.purchase == purchase or one.trace_id == CALLER_TRACE
    ]
    assert {one.trace_id for one in spans} == {CALLER_TRACE}
    [server] = [one for one in spans if one.is_server]
    sent, process = own(spans, purchase, words.sending), own(spans, purchase, words.processing)
    pay = own(spans, purchase, "pay")
    [charge] = [one for one in spans if one.name == "payment charge"]
    assert tree(spans) == {
        (API, "POST /purchase/buy", "SERVER", CALLER_SPAN),
        (API, "FCALL reserve", "CLIENT", server.span_id),
        (API, words.sending, "PRODUCER", server.span_id),
        (WORKER, words.processing, "CONSUMER", sent.span_id),
        (WORKER, "FCALL reserve", "CLIENT", process.span_id),
        (WORKER, "INSERT orders", "CLIENT", process.span_id),
        (WORKER, "pay", "INTERNAL", process.span_id),
        (WORKER, "payment charge", "CLIENT", pay.span_id),
        (WORKER, "UPDATE orders", "CLIENT", pay.span_id),
        (WORKER, "FCALL follow", "CLIENT", pay.span_id),
        (WORKER, words.telling, "PRODUCER", process.span_id),
    }
    assert len(spans) == len(tree(spans))
    assert not any(one.is_error for one in spans)
    assert_conventions(spans, words, server, charge)


def tree(spans: Sequence[Seen]) -> set[tuple[str, str, str, str]]:
    """Say of each span whose it is, what it is, and below which it stands."""
    return {(one.service, one.name, one.kind, one.parent_id) for one in spans}


def assert_conventions(spans: Sequence[Seen], words: Words, server: Seen, charge: Seen) -> None:
    """What OpenTelemetry's semantic conventions ask for is there, by its name."""
    assert server.attributes["http.request.method"] == "POST"
    assert server.attributes["http.route"] == "/purchase/buy"
    assert server.attributes["url.path"] == "/purchase/buy"
    assert server.attributes["url.scheme"] == "http"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["server.address"] == "127.0.0.1"
    assert isinstance(server.attributes["server.port"], int)
    by_name = {one.name: one.attributes for one in spans}
    for name, operation, kind in (
        (words.sending, words.send, "send"),
        (words.telling, words.send, "send"),
        (words.processing, "process", "process"),
    ):
        about = by_name[name]
        assert about["messaging.system"] == words.system
        assert about["messaging.operation.name"] == operation
        assert about["messaging.operation.type"] == kind
        assert about["server.address"] == "127.0.0.1"
    if words.system == "kafka":
        about = by_name[words.processing]
        assert about["messaging.destination.name"] == words.accepted
        assert about["messaging.destination.partition.id"].isdigit()
        group = words.settings["FLASHSALE_ACCEPTED_GROUP"]
        assert about["messaging.consumer.group.name"] == group
    else:
        queue = by_name[words.processing]["messaging.rabbitmq.destination.routing_key"]
        assert queue.rpartition(".")[0] == words.accepted
        exchange = words.settings["FLASHSALE_EXCHANGE"]
        destination = by_name[words.telling]["messaging.destination.name"]
        assert destination == f"{exchange}:{words.orders}"
    assert by_name["FCALL reserve"]["db.system.name"] == "redis"
    assert by_name["INSERT orders"]["db.system.name"] == "postgresql"
    assert by_name["INSERT orders"]["db.collection.name"] == "orders"
    assert by_name["INSERT orders"]["db.operation.name"] == "INSERT"
    assert by_name["INSERT orders"]["flashsale.outcome"] == "pending_payment"
    assert by_name["UPDATE orders"]["flashsale.outcome"] == "confirmed"
    assert charge.attributes["flashsale.outcome"] == "charged"
    assert {one.resource["service.namespace"] for one in spans} == {"flashsale"}
    said = repr([(one.attributes, one.resource) for one in spans])
    assert "tok" not in said
    assert "secret" not in said


async def test_without_a_callers_trace_the_server_begins_it(
    traced: Shop, collector: Collector, words: Words
) -> None:
    """And its own context is what travels."""
    purchase = f"own-{uuid.uuid4().hex[:8]}"
    bought(traced, purchase)
    spans = await whole(collector, words, purchase)
    sent = own(spans, purchase, words.sending)
    [server] = [one for one in spans if one.span_id == sent.parent_id]
    assert (server.kind, server.parent_id, server.service) == ("SERVER", "", API)
    assert own(spans, purchase, words.telling).trace_id == server.trace_id


async def test_the_event_and_the_charge_carry_the_trace_on(
    traced: Shop, collector: Collector, words: Words
) -> None:
    """Another service goes on below the span that sent it; so does the payment provider."""
    purchase = f"out-{uuid.uuid4().hex[:8]}"
    heard = asyncio.create_task(_heard(words, purchase))
    try:
        bought(traced, purchase)
        spans = await whole(collector, words, purchase)
        traceparent = await asyncio.wait_for(heard, 30)
    finally:
        heard.cancel()
    telling = own(spans, purchase, words.telling)
    assert traceparent.split("-")[1:3] == [telling.trace_id, telling.span_id]
    [charge] = [
        one for one in spans if one.name == "payment charge" and one.trace_id == telling.trace_id
    ]
    [entry] = [one for one in traced.provider.ledger() if one["about"].endswith(purchase)]
    assert entry["traceparent"].split("-")[1:3] == [charge.trace_id, charge.span_id]


async def _heard(words: Words, purchase: str) -> str:
    """Listen to the events for the header of one purchase."""
    async for body, headers in _events(words):
        if purchase.encode() in body:
            return headers["traceparent"]
    raise AssertionError("the events ended")


async def _events(words: Words) -> AsyncIterator[tuple[bytes, dict[str, str]]]:
    url = words.settings["FLASHSALE_BUS_URL"]
    if words.system == "kafka":
        async with AIOKafkaConsumer(
            words.orders,
            bootstrap_servers=url.removeprefix("kafka://"),
            auto_offset_reset="earliest",
        ) as consumer:
            async for record in consumer:
                yield record.value, {name: value.decode() for name, value in record.headers}
        return
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(words.orders, ensure=False)
        async with queue.iterator(no_ack=True) as messages:
            async for message in messages:
                yield message.body, {name: _text(value) for name, value in message.headers.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def test_buyers_of_one_batch_keep_their_traces_and_are_linked_by_it(
    traced: Shop, collector: Collector, words: Words
) -> None:
    """Ten at once, while the worker is away: it takes them together, ten traces and one batch."""
    mark = uuid.uuid4().hex[:8]
    names = [f"many-{mark}-{n}" for n in range(10)]
    worker: Program = traced.worker
    assert worker.stop() == 0
    wanted: list[dict[str, object]] = [
        {"userId": name, "productId": 1, "purchaseId": name, "paymentToken": "tok"}
        for name in names
    ]
    assert await crowd([traced.door], wanted) == {200: 10}
    traced.engine.start("worker").wait_until_ready()
    spans = await whole(collector, words, *names)
    by_place = {one.place: one for one in spans}
    assert len({own(spans, name, words.sending).trace_id for name in names}) == 10
    for own_name, batch_name in (
        ("FCALL reserve", "FCALL reserve"),
        (words.sending, words.sending),
        (words.processing, words.processing),
        ("INSERT orders", "BATCH orders"),
        (words.telling, words.telling),
    ):
        sizes = []
        for name in names:
            for one in (s for s in spans if s.purchase == name and s.name == own_name):
                [place] = one.links
                batch = by_place[place]
                assert batch.purchase is None
                assert batch.name == batch_name
                assert batch.service == one.service
                assert batch.links & {one.place, (one.trace_id, one.parent_id)}, own_name
                assert batch.trace_id != one.trace_id
                assert batch.began_ns <= one.began_ns <= one.ended_ns <= batch.ended_ns or (
                    own_name in (words.sending, words.telling)
                )
                sizes.append(len(batch.links))
        assert max(sizes) > 1, own_name
    transactions = [one for one in spans if one.name == "BATCH orders"]
    deliveries = {one.place for one in spans if one.name == words.processing and not one.purchase}
    assert {(one.trace_id, one.parent_id) for one in transactions} <= deliveries


async def test_a_stopped_process_has_sent_its_last_spans(
    traced: Shop, collector: Collector, words: Words
) -> None:
    """Also what would have waited for the next batch: a stop sends what is there."""
    purchase = f"last-{uuid.uuid4().hex[:8]}"
    door = traced.engine.start("serve", OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_SERVICE_NAME="last")
    door.wait_until_ready()
    body = {"userId": purchase, "productId": 1, "purchaseId": purchase, "paymentToken": "tok"}
    answer = await asyncio.to_thread(ask, "POST", f"{door.url}/purchase/buy", body)
    assert answer.status == 200
    assert await asyncio.to_thread(door.stop) == 0
    traced.engine.programs.remove(door)
    assert own(collector.spans(), purchase, words.sending).service == "last"


@pytest.mark.parametrize(
    "how", ["silent", *(pytest.param(one, marks=pytest.mark.long) for one in ("away", "refuses"))]
)
async def test_a_collector_that_is_away_harms_nobody(
    how: str,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    provider: Provider,
    request: pytest.FixtureRequest,
) -> None:
    """Purchases are answered and become orders, a stop is in time, and one line says it."""
    kafka: Kafka = request.getfixturevalue("kafka_server")
    with running_collector() as bad:
        more = bad.environment()
        if how == "away":
            more["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
        bad.answer = None if how == "silent" else 503
        servers = (kafka, redis_server, postgres_server, provider)
        with shop(tmp_path, *servers, "serve", "worker", more=more) as ours:
            ours.open(50)
            wanted: list[dict[str, object]] = [
                {"userId": n, "productId": 1, "purchaseId": f"h-{n}", "paymentToken": "tok"}
                for n in range(50)
            ]
            assert await crowd([ours.door], wanted) == {200: 50}
            assert await ours.settled(50) == {"CONFIRMED": 50}
            for program in ours.engine.programs:
                began = asyncio.get_running_loop().time()
                assert await asyncio.to_thread(program.stop) == 0
                assert asyncio.get_running_loop().time() - began < 8
                text = program.log.read_text()
                assert text.count("spans are lost") + text.count("spans were not") <= 2
                assert "spans are lost" in text or "last spans are lost" in text
                assert "Traceback" not in text


async def test_the_embedded_default_is_traced_as_one_service(tmp_path: Path) -> None:
    """`flashsale run` needs no server, and shows a newcomer the same tree."""
    with running_collector() as collector, engine(tmp_path, collector.environment()) as ours:
        door = ours.start("run")
        door.wait_until_ready()
        opened = ask("POST", f"{door.url}/purchase/init?productId=traced&stock=1")
        assert opened.status == 200, opened
        body = {"userId": 1, "productId": "traced", "purchaseId": "embedded"}
        assert ask("POST", f"{door.url}/purchase/buy", body).status == 200

        def is_told(spans: list[Seen]) -> bool:
            return any(one.name == "send flashsale.orders" for one in spans)

        await asyncio.to_thread(collector.until, is_told)
        assert await asyncio.to_thread(door.stop) == 0
    spans = [one for one in collector.spans() if one.purchase == "embedded" or one.is_server]
    assert {one.service for one in spans} == {"flashsale"}
    assert len({one.trace_id for one in spans}) == 1
    [server] = [one for one in spans if one.is_server]
    process = own(spans, "embedded", "process flashsale.purchase.accepted")
    below = {one.name for one in spans if one.parent_id == process.span_id}
    assert below == {"reserve", "INSERT orders", "follow", "send flashsale.orders"}
    assert own(spans, "embedded", "INSERT orders").attributes["db.system.name"] == "sqlite"
    assert server.parent_id == ""
