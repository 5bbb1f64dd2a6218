"""RabbitMQ and PostgreSQL over TLS, each on a listener of its own, with a throwaway authority.

Redis and Kafka have theirs in test_redis_tls.py and test_kafka_security.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import Channel
from flashsale_core.model import ItemId, SaleTerms
from flashsale_core.testing.event_bus import accepted_fact, facts_of, take_messages
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_rabbitmq import ensure_topology, open_rabbitmq_bus
from flashsale_sql import open_database, upgrade
from flashsale_sql.operating import SqlOperator
from tests.integration.rabbitmq_world import own_config
from tests.servers import Postgres, RabbitMQ, running_postgres, running_rabbitmq
from tests.servers.authority import Authority
from tests.servers.launch import HOST, OTHER_HOST


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority that vouches for nobody here."""
    return Authority(tmp_path_factory.mktemp("stranger")).certificate


@pytest.fixture(scope="module")
def tls_rabbitmq() -> Iterator[RabbitMQ]:
    """Start a broker with a TLS listener."""
    with running_rabbitmq(tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def tls_postgres() -> Iterator[Postgres]:
    """Start a server that takes TLS."""
    with running_postgres(tls=True) as server:
        yield server


async def test_facts_travel_over_amqps(tls_rabbitmq: RabbitMQ) -> None:
    """Topology, check, publish and subscription; the authority is named in the URL."""
    config = own_config(f"{tls_rabbitmq.tls_url}?cafile={tls_rabbitmq.ca}")
    await ensure_topology(config)
    async with open_rabbitmq_bus(config, PlainCodec()) as bus:
        await bus.check()
        await bus.publish([accepted_fact(1)])
        async with bus.subscribe(Channel.ACCEPTED, messages_max=5) as subscription:
            assert await facts_of(await take_messages(subscription, 1)) == [accepted_fact(1)]


@pytest.mark.parametrize("how", ["nobody", "a stranger", "another host"])
async def test_a_broker_that_is_not_whom_we_meant_is_refused(
    tls_rabbitmq: RabbitMQ, stranger: Path, how: str
) -> None:
    """Nothing is sent, and the error says where to look."""
    assert tls_rabbitmq.tls_url is not None
    url, ca = tls_rabbitmq.tls_url, str(tls_rabbitmq.ca)
    if how == "another host":
        url = url.replace(HOST, OTHER_HOST)
    config = own_config(url)
    trusted = {"nobody": None, "a stranger": str(stranger), "another host": ca}[how]
    async with open_rabbitmq_bus(attrs.evolve(config, ca_file=trusted), PlainCodec()) as bus:
        with pytest.raises(Unavailable, match="TLS failed, check the scheme, the host") as refused:
            await bus.check()
    assert refused.value.why is Why.BUS_AWAY
    assert "certificate" in refused.value.detail
    assert "guest:guest" not in str(refused.value)


async def test_orders_are_kept_over_tls_with_a_verified_server(tls_postgres: Postgres) -> None:
    """`verify-full`: the authority and the host name are checked; the session is encrypted."""
    url = f"{tls_postgres.url}?sslmode=verify-full&sslrootcert={tls_postgres.ca}"
    await upgrade(url)
    async with open_database(url) as database:
        await database.check()
        sale = await database.catalogue.create(ItemId("1"), SaleTerms(units=3))
        assert sale.terms.units == 3
    findings = await SqlOperator(url).diagnose()
    assert {one.verdict.value for one in findings} == {"ok"}


@pytest.mark.parametrize("how", ["a stranger", "another host"])
async def test_a_server_that_is_not_whom_we_meant_is_refused(
    tls_postgres: Postgres, stranger: Path, how: str
) -> None:
    """Before a password or a row is sent; the doctor names the two parameters."""
    url, ca = tls_postgres.url, tls_postgres.ca
    if how == "another host":
        url = url.replace(HOST, OTHER_HOST)
    trusted = {"a stranger": stranger, "another host": ca}[how]
    url = f"{url}?sslmode=verify-full&sslrootcert={trusted}"
    async with open_database(url) as database:
        with pytest.raises(Unavailable, match="certificate") as refused:
            await database.check()
    assert refused.value.why is Why.DATABASE_AWAY
    if how == "another host":
        assert OTHER_HOST in refused.value.detail
    [finding] = await SqlOperator(url).diagnose()
    assert (finding.name, "sslrootcert" in finding.fix) == ("database TLS", True)
