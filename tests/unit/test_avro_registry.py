"""What is asked of a registry, what its answers mean, and what is remembered of them."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from confluent_kafka.schema_registry import error as client_errors
from confluent_kafka.schema_registry.error import SchemaRegistryError

from flashsale_avro import (
    AvroCodec,
    AvroConfig,
    NoSuchSchema,
    RegistryConfig,
    SchemaName,
    open_codec,
    schema_texts,
)
from flashsale_avro.framing import confluent_header
from flashsale_avro.known_schemas import AWAY_S, LEARNED_MAX, UNKNOWN_S
from flashsale_avro.schema_registry import _meaning
from flashsale_core.errors import Conflict, Corrupt, FlashsaleError, Unavailable, Why
from flashsale_core.events import Channel, Message
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.unit.test_avro_codec import OWN_IDS, RegistryOfOurs

ROOT = Path(__file__).resolve().parents[2]
REQUEST = PurchaseRequest(
    purchase_id=PurchaseId("p-1"),
    user_id=UserId("u-1"),
    item_id=ItemId("shoe"),
    requested_at_ms=1,
)
TEXT = schema_texts()[SchemaName.PURCHASE_REQUEST]
RECORD = AvroCodec().encode(REQUEST).body[10:]


class RegistryThatIsAway(RegistryOfOurs):
    """A registry that does not answer until it is back."""

    is_away = True

    async def schema(self, schema_id: int) -> str:
        """Answer as an unreachable registry does."""
        if self.is_away:
            self.asked.append(schema_id)
            raise Unavailable(Why.REGISTRY_AWAY, "the test took it away")
        return await super().schema(schema_id)


def framed(schema_id: int, record: bytes = RECORD) -> Message:
    """Make a message of the outside door under a registry's id."""
    body = confluent_header(schema_id) + record
    return Message(channel=Channel.REQUESTS, body=body, origin=f"t:0:{schema_id}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, to be turned."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


# ── what is asked, and how often ────────────────────────────────────────────────────────────────


async def test_a_schema_is_asked_for_once() -> None:
    """Whether it is admitted or refused, the registry's numbers never change their meaning."""
    registry = RegistryOfOurs({7: TEXT, 8: '"string"'})
    codec = AvroCodec(registry)
    for _ in range(3):
        decoded = await codec.decode([framed(7), framed(8), framed(7)])
        assert decoded[0] == decoded[2] == REQUEST
        assert isinstance(decoded[1], Corrupt)
    assert registry.asked == [7, 8]


async def test_two_batches_at_once_ask_once() -> None:
    """Partitions are decoded side by side, and begin with the same unknown id."""
    registry = RegistryOfOurs({7: TEXT})
    codec = AvroCodec(registry)
    decoded = await asyncio.gather(*(codec.decode([framed(7)]) for _ in range(8)))
    assert decoded == [[REQUEST]] * 8
    assert registry.asked == [7]


async def test_our_own_messages_never_need_the_registry() -> None:
    """Their ids were looked up at the start, so an outage does not touch promises."""
    registry = RegistryThatIsAway({})
    codec = AvroCodec(registry, own_ids=OWN_IDS)
    body = codec.encode(REQUEST).body
    message = Message(channel=Channel.REQUESTS, body=body, origin="t:0:0")
    assert await codec.decode([message, message]) == [REQUEST, REQUEST]
    assert registry.asked == []


async def test_a_registry_that_is_away_costs_no_message() -> None:
    """The whole batch waits: nothing in it is dead-lettered, nothing is half done."""
    registry = RegistryThatIsAway({7: TEXT})
    codec = AvroCodec(registry)
    with pytest.raises(Unavailable) as away:
        await codec.decode([framed(7)])
    assert away.value.why is Why.REGISTRY_AWAY


async def test_a_registry_that_is_away_is_not_asked_by_everybody(clock: list[float]) -> None:
    """One waits for its deadline; the others are told what that one learned, for a moment."""
    registry = RegistryThatIsAway({7: TEXT, 8: TEXT})
    codec = AvroCodec(registry)
    for schema_id in (7, 8, 7):
        with pytest.raises(Unavailable, match="the test took it away"):
            await codec.decode([framed(schema_id)])
    assert registry.asked == [7]
    registry.is_away = False
    clock[0] += AWAY_S + 0.1
    assert await codec.decode([framed(7)]) == [REQUEST]


async def test_what_was_learned_before_an_outage_is_kept() -> None:
    """A batch that begins again asks only for the rest."""

    class AwayAfterTheFirst(RegistryOfOurs):
        async def schema(self, schema_id: int) -> str:
            if self.asked:
                raise Unavailable(Why.REGISTRY_AWAY)
            return await super().schema(schema_id)

    registry = AwayAfterTheFirst({7: TEXT, 8: TEXT})
    codec = AvroCodec(registry)
    with pytest.raises(Unavailable):
        await codec.decode([framed(7), framed(8)])
    assert await codec.decode([framed(7)]) == [REQUEST]
    assert registry.asked == [7]


async def test_an_unknown_id_is_corrupt_and_believed_for_a_while(clock: list[float]) -> None:
    """A flood of messages under a wrong id is no flood of questions."""
    registry = RegistryOfOurs({})
    codec = AvroCodec(registry)
    for _ in range(3):
        (decoded,) = await codec.decode([framed(7)])
        assert isinstance(decoded, Corrupt)
        assert decoded.code == "unknown-schema-id"
        assert "no schema 7" in decoded.detail
    assert registry.asked == [7]
    registry.texts[7] = TEXT
    clock[0] += UNKNOWN_S + 0.1
    assert await codec.decode([framed(7)]) == [REQUEST]


async def test_an_id_that_cannot_be_is_not_asked_for() -> None:
    """A registry would answer it like a wrong URL, which is an outage and no verdict."""
    registry = RegistryOfOurs({})
    (decoded,) = await AvroCodec(registry).decode([framed(2**31)])
    assert isinstance(decoded, Corrupt)
    assert decoded.code == "unknown-schema-id"
    assert registry.asked == []


async def test_memory_of_foreign_schemas_is_bounded_and_never_forgets_our_own() -> None:
    """Somebody who registers without end fills no memory."""
    registry = RegistryOfOurs(dict.fromkeys(range(1000, 1000 + LEARNED_MAX + 50), TEXT))
    codec = AvroCodec(registry, own_ids=OWN_IDS)
    await codec.decode([framed(schema_id) for schema_id in registry.texts])
    registry.asked.clear()
    await codec.decode([framed(OWN_IDS[SchemaName.PURCHASE_REQUEST])])
    await codec.decode([framed(1000 + LEARNED_MAX + 49)])
    assert registry.asked == []
    await codec.decode([framed(1000)])
    assert registry.asked == [1000]
    unknown = [framed(schema_id) for schema_id in range(50_000, 50_000 + LEARNED_MAX + 50)]
    await codec.decode(unknown)
    assert len(codec._schemas._unknown_until) <= LEARNED_MAX
    assert len(codec._schemas._verdicts) <= LEARNED_MAX + 2 * len(SchemaName)


# ── what its answers mean ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (404, 40403, NoSuchSchema),
        (404, 40401, NoSuchSchema),
        (404, 40402, NoSuchSchema),
        (404, 0, Unavailable),
        (404, -1, Unavailable),
        (401, 401, Unavailable),
        (403, 40301, Unavailable),
        (409, 409, Conflict),
        (422, 42201, Unavailable),
        (429, 42900, Unavailable),
        (500, 50001, Unavailable),
        (502, -1, Unavailable),
        (503, -1, Unavailable),
    ],
)
def test_only_the_registry_s_own_word_is_a_verdict(
    status: int, code: int, meaning: type[FlashsaleError]
) -> None:
    """A 404 of a proxy or a mistyped URL would otherwise dead-letter every message."""
    assert type(_meaning(SchemaRegistryError(status, code, "said"), "host")) is meaning


def test_refused_credentials_name_the_setting_and_no_secret() -> None:
    """One clear error."""
    meaning = _meaning(SchemaRegistryError(401, 401, "Unauthorized"), "registry:8081")
    assert isinstance(meaning, Unavailable)
    assert meaning.detail == (
        "the schema registry at registry:8081 refused the credentials: "
        "check FLASHSALE_SCHEMA_REGISTRY_AUTH"
    )


def driver_errors() -> list[type[Exception]]:
    """List every exception that the client and its HTTP library define, and the clock's."""
    modules = (client_errors, httpx)
    defined = [
        kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)
    ]
    errors = {kind for kind in defined if issubclass(kind, Exception)}
    # In one order for all processes of a test run.
    named = sorted(errors, key=lambda kind: (kind.__module__, kind.__name__))
    return [*named, TimeoutError, OSError, ValueError]


@pytest.mark.parametrize("kind", driver_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_has_a_meaning(kind: type[Exception]) -> None:
    """None of them reaches a caller as it is; whatever is no answer means that it is away."""
    meaning = _meaning(kind.__new__(kind), "host")
    assert isinstance(meaning, Unavailable)
    assert meaning.why is Why.REGISTRY_AWAY
    assert kind.__name__ in meaning.detail


# ── configuration ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"url": "localhost:8081"}, "FLASHSALE_SCHEMA_REGISTRY_URL must be an http"),
        ({"url": "http://"}, "FLASHSALE_SCHEMA_REGISTRY_URL must be an http"),
        ({"url": "http://a,ftp://b"}, "FLASHSALE_SCHEMA_REGISTRY_URL must be an http"),
        ({"url": "http://me:secret@a"}, "use FLASHSALE_SCHEMA_REGISTRY_AUTH"),
        ({"url": "http://a", "auth": "secret"}, "FLASHSALE_SCHEMA_REGISTRY_AUTH must be user:"),
        ({"url": "http://a", "auth": "me:"}, "FLASHSALE_SCHEMA_REGISTRY_AUTH must be user:"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_opened(
    settings: Mapping[str, str], problem: str
) -> None:
    """And the secret is not repeated."""
    with pytest.raises(ValueError, match=problem) as wrong:
        RegistryConfig(**settings)
    assert "secret" not in str(wrong.value).replace("must not hold a secret", "")


def test_a_configured_secret_is_never_shown() -> None:
    """Neither in a log nor in a traceback that prints the configuration."""
    config = AvroConfig(registry=RegistryConfig(url="http://a", auth="me:hunter2"))
    assert "hunter2" not in repr(config)


async def test_without_a_registry_nothing_is_asked() -> None:
    """The embedded default opens a codec and needs no network and no extra."""
    async with open_codec(AvroConfig()) as codec:
        assert codec.encode(REQUEST).body[:2] == b"\xc3\x01"


async def test_a_registry_that_does_not_answer_stops_the_start() -> None:
    """Our ids must be known before the first promise is written."""
    config = AvroConfig(registry=RegistryConfig(url="http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match=r"registry at 127\.0\.0\.1:9 did not answer"):
        async with open_codec(config):
            pass


def test_a_missing_extra_is_named() -> None:
    """One line to run, where Python would only name a module."""
    program = """
import asyncio, sys
sys.modules["confluent_kafka"] = sys.modules["confluent_kafka.schema_registry"] = None
import flashsale_avro as a
async def main():
    async with a.open_codec(a.AvroConfig(registry=a.RegistryConfig(url="http://localhost"))):
        pass
try:
    asyncio.run(main())
except ImportError as missing:
    print(missing)
"""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "src/adapters")])
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'flashsale[registry]'" in said.stdout


def test_a_process_without_a_registry_does_not_load_the_client() -> None:
    """It takes a fifth of a second and 20 MB."""
    program = "import flashsale_avro, sys; print('confluent_kafka' in sys.modules)"
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "src/adapters")])
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(said.stdout.lower()) is False
