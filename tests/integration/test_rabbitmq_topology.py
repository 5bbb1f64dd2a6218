"""What an operator's mistakes look like, on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest
from aiormq.exceptions import ChannelAccessRefused

from flashsale_core.errors import Conflict, Unavailable, Why
from flashsale_core.events import Channel
from flashsale_core.testing.event_bus import accepted_fact, take_messages
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_rabbitmq import (
    RabbitMQConfig,
    ensure_topology,
    open_rabbitmq_bus,
    topology,
    verify_topology,
)
from tests.integration.rabbitmq_world import (
    RabbitMQWorld,
    delete_topology,
    own_config,
    rabbitmq_world,
)
from tests.servers import RabbitMQ
from tests.servers.authority import Authority


@pytest.fixture
async def world(rabbitmq_server: RabbitMQ) -> AsyncIterator[RabbitMQWorld]:
    """Lend a topology of the test's own."""
    async with rabbitmq_world(rabbitmq_server) as made:
        yield made


@pytest.fixture
async def config(rabbitmq_server: RabbitMQ) -> AsyncIterator[RabbitMQConfig]:
    """Name a topology that is not there, and delete what a test makes of it."""
    config = own_config(rabbitmq_server.url)
    yield config
    await delete_topology(config)


async def test_ensuring_creates_what_is_missing_once(config: RabbitMQConfig) -> None:
    """The second time there is nothing to do, and what was made is as it must be."""
    created = await ensure_topology(config)
    assert f"exchange {config.exchange}" in created
    assert f"queue {config.dead_letters}" in created
    assert len(created) == 1 + 3 + config.accepted_partitions
    assert await ensure_topology(config) == ()
    await verify_topology(config)


async def test_a_queue_of_another_shape_is_shown_with_both_shapes_and_left_alone(
    world: RabbitMQWorld,
) -> None:
    """A classic queue with a length limit would lose promises; nobody repairs it by itself."""
    await redeclare(world, world.config.requests, {"x-max-length": 4})
    with pytest.raises(Conflict) as raised:
        await ensure_topology(world.config)
    assert raised.value.code == "topology-differs"
    wanted, found = raised.value.detail.split("; found ")
    assert f"queue {world.config.requests}: wanted durable" in wanted
    assert "x-queue-type=quorum" in wanted
    assert "x-delivery-limit=1000" in wanted
    assert "x-max-length=4, x-queue-type=classic" in found
    with pytest.raises(Conflict):
        await verify_topology(world.config)


async def test_every_difference_is_shown_at_once(world: RabbitMQWorld) -> None:
    """An operator mends them in one go."""
    first, second, _ = world.config.accepted_queues()
    await redeclare(world, first, {"x-queue-type": "quorum"})
    await redeclare(world, second, {"x-queue-type": "quorum", "x-delivery-limit": 5})
    other = attrs.evolve(world.config, exchange="amq.direct")
    with pytest.raises(Conflict) as raised:
        await verify_topology(other)
    detail = raised.value.detail
    assert "exchange amq.direct: wanted durable topic" in detail
    assert "'direct'" in detail
    assert f"queue {first}: wanted" in detail
    assert f"queue {second}: wanted" in detail
    assert "found durable, x-delivery-limit=5, x-queue-type=quorum;" in detail


async def test_when_something_differs_nothing_is_created(
    world: RabbitMQWorld, config: RabbitMQConfig
) -> None:
    """Half a topology of each shape would be worse than either."""
    mixed = attrs.evolve(config, requests=world.config.requests)
    with pytest.raises(Conflict):
        await ensure_topology(mixed)
    with pytest.raises(Conflict) as raised:
        await verify_topology(attrs.evolve(mixed, requests=config.requests))
    assert raised.value.code == "topology-missing"


async def test_fewer_partitions_than_there_are_queues_differ(world: RabbitMQWorld) -> None:
    """Promises in a queue that nobody reads any more would never become orders."""
    fewer = attrs.evolve(world.config, accepted_partitions=2)
    with pytest.raises(Conflict, match="wanted 2 accepted queues; found more"):
        await verify_topology(fewer)


async def test_a_check_names_what_is_missing_and_creates_nothing(config: RabbitMQConfig) -> None:
    """A running process never declares: it says which command does."""
    async with open_rabbitmq_bus(config, PlainCodec()) as bus:
        for _ in range(2):
            with pytest.raises(Unavailable, match="topics ensure") as raised:
                await bus.check()
            assert f"exchange {config.exchange}" in raised.value.detail
            assert f"queue {config.requests}" in raised.value.detail
        await ensure_topology(config)
        await bus.check()


async def test_a_user_who_may_not_configure_sees_existence_and_may_not_create(
    world: RabbitMQWorld, config: RabbitMQConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked-down process starts on queues that are there; creating is refused, and says why."""

    async def refuse(*_: object, **__: object) -> None:
        raise ChannelAccessRefused("ACCESS_REFUSED - configure access refused")

    passive_only = {
        name: forbid_but_passive(getattr(topology, name), refuse)
        for name in ("_declare", "_declare_exchange")
    }
    for name, declare in passive_only.items():
        monkeypatch.setattr(topology, name, declare)
    await verify_topology(world.config)
    with pytest.raises(Conflict, match="missing"):
        await verify_topology(config)
    with pytest.raises(Unavailable, match="lacks a right"):
        await ensure_topology(config)


def forbid_but_passive(
    declare: Callable[..., Awaitable[None]], refuse: Callable[..., Awaitable[None]]
) -> Callable[..., Awaitable[None]]:
    """Answer as a broker does to a user without the right to configure."""

    def answer(*what: object, passive: bool = False) -> Awaitable[None]:
        return declare(*what, passive=True) if passive else refuse()

    return answer


async def test_subscribing_to_a_missing_queue_says_so_and_recovers(
    config: RabbitMQConfig,
) -> None:
    """A worker that was started too early goes on once the queues are there."""
    async with (
        open_rabbitmq_bus(config, PlainCodec()) as bus,
        bus.subscribe(Channel.ACCEPTED, messages_max=5) as subscription,
    ):
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable, match="topics ensure"):
                await subscription.take()
        await ensure_topology(config)
        await bus.publish([accepted_fact(1)])
        taken = asyncio.ensure_future(take_through_outages(subscription))
        assert await asyncio.wait_for(taken, 30) == 1


async def take_through_outages(subscription: object) -> int:
    """Take as a worker does, which goes on after `Unavailable`."""
    while True:
        with contextlib.suppress(Unavailable):
            return len(await take_messages(subscription, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("user", "path", "advice"),
    [
        ("guest:wrong-secret", "", "user and password in the bus URL"),
        ("nobody:guest", "", "user and password in the bus URL"),
        ("guest:guest", "no%2Fsuch", "virtual host"),
    ],
)
async def test_a_wrong_url_gives_one_error_that_names_the_setting(
    rabbitmq_server: RabbitMQ, user: str, path: str, advice: str
) -> None:
    """From the check, a publish, a subscription and the operator's command alike."""
    host = f"{rabbitmq_server.host}:{rabbitmq_server.port}"
    config = RabbitMQConfig(url=f"amqp://{user}@{host}/{path}")
    async with open_rabbitmq_bus(config, PlainCodec()) as bus:
        for attempt in (
            bus.check(),
            bus.publish([accepted_fact(1)]),
            bus.subscribe(Channel.REQUESTS, messages_max=1).__aenter__(),
            ensure_topology(config),
        ):
            with pytest.raises(Unavailable) as raised:
                await attempt
            assert raised.value.why is Why.BUS_AWAY
            assert advice in raised.value.detail
            assert "FLASHSALE_BUS_URL" in raised.value.detail
            assert "wrong-secret" not in str(raised.value)
            assert not raised.value.may_have_happened


async def redeclare(
    world: RabbitMQWorld, queue: str, arguments: dict[str, str | int | bool]
) -> None:
    """Make a queue anew in another shape."""
    async with world.foreign_channel() as foreign:
        await (await foreign.get_underlay_channel()).queue_delete(queue)
        await foreign.declare_queue(queue, durable=True, arguments=dict(arguments))


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def tls_in_front(server: RabbitMQ, pem: Path) -> AsyncIterator[int]:
    """End TLS before the real broker, as a managed cloud's load balancer does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(context.load_cert_chain, pem)
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(server.host, server.port)
        for way in (pump(reader, inner_writer), pump(inner_reader, writer)):
            task = asyncio.ensure_future(way)
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in pumps.copy():
            task.cancel()
        if pumps:
            await asyncio.wait(pumps.copy())


async def test_amqps_with_an_authority_of_ones_own_publishes_and_consumes(
    world: RabbitMQWorld, tmp_path: Path
) -> None:
    """The CA file is whom to trust; publishing and reading connections both use it."""
    authority = Authority(tmp_path)
    async with tls_in_front(world.server, authority.server_pem()) as port:
        config = attrs.evolve(
            world.config,
            url=f"amqps://guest:guest@localhost:{port}/",
            ca_file=str(authority.certificate),
        )
        await verify_topology(config)
        async with open_rabbitmq_bus(config, PlainCodec()) as bus:
            await bus.check()
            await bus.publish([accepted_fact(1)])
            async with bus.subscribe(Channel.ACCEPTED, messages_max=5) as subscription:
                assert len(await take_messages(subscription, 1)) == 1


async def test_an_authority_that_is_not_trusted_is_named_as_the_trouble(
    world: RabbitMQWorld, tmp_path: Path
) -> None:
    """Without the CA file the connection is refused by us, and the error says TLS."""
    authority = Authority(tmp_path)
    async with tls_in_front(world.server, authority.server_pem()) as port:
        config = attrs.evolve(world.config, url=f"amqps://guest:guest@localhost:{port}/")
        async with open_rabbitmq_bus(config, PlainCodec()) as bus:
            with pytest.raises(Unavailable, match="TLS failed"):
                await bus.check()
            with pytest.raises(Unavailable, match="TLS failed"):
                await bus.subscribe(Channel.ACCEPTED, messages_max=5).__aenter__()
