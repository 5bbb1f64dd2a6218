"""Kafka as a managed cloud wants it: TLS with a login; and one clear error where it is wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import Channel
from flashsale_core.testing.event_bus import accepted_fact, facts_of, take_messages
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_kafka import KafkaConfig, ensure_topics, open_kafka_bus
from flashsale_kafka.connecting import connection_options
from flashsale_kafka.consuming import KafkaSubscription
from tests.integration.kafka_world import config_for
from tests.servers import running_kafka

if TYPE_CHECKING:
    from tests.servers import Kafka
    from tests.servers.kafka import Account

PROMPT_S = 6.0
"""A wrong setting is said at once, not after retries; TLS and a login take a moment here."""


@pytest.fixture(scope="module")
def guarded_kafka() -> Iterator[Kafka]:
    """Start a broker with TLS and logins, under an authority of its own."""
    with running_kafka(sasl=True) as server:
        yield server


def login(server: Kafka, account: Account | None, **changes: Any) -> KafkaConfig:
    """Make a config that logs in with an account."""
    assert account is not None
    config = config_for(
        server.url,
        security_protocol="SASL_SSL",
        sasl_mechanism=account.mechanism,
        username=account.username,
        password=account.password,
        ca_file=str(server.ca),
    )
    return attrs.evolve(config, **changes)


@pytest.fixture(params=["plain", "scram"])
def account(request: pytest.FixtureRequest, guarded_kafka: Kafka) -> Account:
    """Log in by PLAIN, and by SCRAM-SHA-512."""
    found: Account = getattr(guarded_kafka, request.param)
    return found


async def test_facts_travel_over_tls_with_a_login(guarded_kafka: Kafka, account: Account) -> None:
    """Producer, consumer, check and topics all log in."""
    config = login(guarded_kafka, account)
    await ensure_topics(config)
    async with open_kafka_bus(config, PlainCodec()) as bus:
        await bus.check()
        await bus.publish([accepted_fact(1)])
        async with bus.subscribe(Channel.ACCEPTED, messages_max=5) as subscription:
            assert await facts_of(await take_messages(subscription, 1)) == [accepted_fact(1)]


async def one_error(config: KafkaConfig, caplog: pytest.LogCaptureFixture) -> str:
    """Open a bus that cannot be opened, or checked; return what is said, once and promptly."""
    began = time.monotonic()
    with caplog.at_level(logging.INFO), pytest.raises(Unavailable) as raised:
        async with open_kafka_bus(config, PlainCodec()) as bus:
            await bus.check()
    assert time.monotonic() - began < PROMPT_S
    assert raised.value.why is Why.BUS_AWAY
    assert not raised.value.may_have_happened
    assert [record for record in caplog.records if record.name.startswith("aiokafka")] == []
    return raised.value.detail


async def test_a_wrong_password_gives_one_error_that_names_the_setting(
    guarded_kafka: Kafka, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """No storm of tracebacks, no endless retry, and the secret is not repeated."""
    config = login(guarded_kafka, account, password="not-the-password")
    detail = await one_error(config, caplog)
    assert "FLASHSALE_KAFKA_PASSWORD" in detail
    assert "not-the-password" not in detail


async def test_a_mechanism_that_is_not_offered_is_named(
    guarded_kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker speaks PLAIN and SCRAM-SHA-512 only."""
    config = login(guarded_kafka, guarded_kafka.plain, sasl_mechanism="SCRAM-SHA-256")
    assert "FLASHSALE_KAFKA_SASL_MECHANISM" in await one_error(config, caplog)


async def test_an_authority_that_is_not_trusted_is_named(
    guarded_kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the authority's file nobody vouches for the broker."""
    config = login(guarded_kafka, guarded_kafka.plain, ca_file=None)
    assert "FLASHSALE_KAFKA_CA" in await one_error(config, caplog)


async def test_an_authority_that_is_not_there_is_named(
    guarded_kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong path is a wrong setting like another."""
    config = login(guarded_kafka, guarded_kafka.plain, ca_file="/nowhere/authority.pem")
    assert "FLASHSALE_KAFKA_CA" in await one_error(config, caplog)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT"])
async def test_another_protocol_than_the_listeners_is_said(
    guarded_kafka: Kafka, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The port speaks SASL_SSL; whoever speaks otherwise is told which way was tried."""
    config = login(guarded_kafka, guarded_kafka.plain, security_protocol=protocol)
    detail = await one_error(config, caplog)
    assert f"by {protocol}:" in detail
    assert "FLASHSALE_" in detail


async def test_tls_on_a_port_without_it_names_the_protocol(
    guarded_kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain listener answers TLS with nonsense."""
    config = login(guarded_kafka, guarded_kafka.plain, url=guarded_kafka.plaintext_url)
    assert "FLASHSALE_" in await one_error(config, caplog)


@pytest.fixture
async def outdated(guarded_kafka: Kafka) -> AsyncIterator[KafkaSubscription]:
    """Subscribe with a password that is no longer right."""
    config = login(guarded_kafka, guarded_kafka.scram, password="changed-meanwhile")
    options = await connection_options(config)
    subscription = KafkaSubscription(config, options, Channel.ACCEPTED, 5)
    subscription.start()
    yield subscription
    await subscription.leave()


async def test_a_subscription_says_again_and_again_that_its_login_is_refused(
    outdated: KafkaSubscription,
) -> None:
    """A worker that waits silently for ever would look healthy."""
    for _ in range(2):
        with pytest.raises(Unavailable, match="FLASHSALE_KAFKA_PASSWORD"):
            await outdated.take()


def test_secrets_are_not_shown() -> None:
    """A config may be logged."""
    config = KafkaConfig(
        url="kafka://h:1",
        security_protocol="SASL_SSL",
        username="u",
        password="the-secret",
    )
    assert "the-secret" not in repr(config)
