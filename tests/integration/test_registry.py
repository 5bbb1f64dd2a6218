"""The codec against a real schema registry: registered, looked up, asked, refused, away."""

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flashsale.cli import EXIT_FAILED
from flashsale.commands.app import run_command
from flashsale_avro import (
    AvroCodec,
    AvroConfig,
    RegistryConfig,
    SchemaName,
    WireFormat,
    check_schemas,
    open_codec,
    register_schemas,
    schema_texts,
)
from flashsale_avro.framing import confluent_header, schema_id_of
from flashsale_avro.schema_registry import REQUEST_S_MAX
from flashsale_core.errors import Conflict, Corrupt, Unavailable, Why
from flashsale_core.events import Channel, Message
from flashsale_core.model import EventId, ItemId, PurchaseId, PurchaseRequest, Source, UserId
from flashsale_core.testing.codec import CodecContract
from tests.servers import Registry, running_registry

REQUEST = PurchaseRequest(
    purchase_id=PurchaseId("p-1"),
    user_id=UserId("u-1"),
    item_id=ItemId("shoe"),
    requested_at_ms=1,
    source=Source.WEB,
)
WITHOUT_HEADER = AvroCodec().encode(REQUEST).body[10:]


def config_of(registry: Registry) -> AvroConfig:
    """Configure a codec for a server of the tests."""
    return AvroConfig(registry=RegistryConfig(url=registry.url, auth=registry.auth))


def speak(registry: Registry, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Speak to the registry as another team's tool does."""
    request = urllib.request.Request(
        registry.url + path,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def put_schema(registry: Registry, subject: str, schema: Any) -> int:
    """Register a schema of a foreign service."""
    body = {"schema": schema if isinstance(schema, str) else json.dumps(schema)}
    return int(speak(registry, "POST", f"/subjects/{subject}/versions", body)["id"])


def message(body: bytes) -> Message:
    """Make a message of the outside door."""
    return Message(channel=Channel.REQUESTS, body=body, origin="t:0:0")


@pytest.fixture
async def codec(registry_server: Registry) -> AsyncIterator[AvroCodec]:
    """A codec whose schemas are registered."""
    config = config_of(registry_server)
    assert config.registry is not None
    await register_schemas(config.registry)
    async with open_codec(config) as opened:
        yield opened


@pytest.fixture(scope="module")
def our_registry() -> Iterator[Registry]:
    """A registry that tests may empty and stop."""
    with running_registry(ours=True) as registry:
        yield registry


@pytest.fixture
def registry(our_registry: Registry) -> Registry:
    """An empty registry without rules."""
    for subject in speak(our_registry, "GET", "/subjects"):
        speak(our_registry, "DELETE", f"/subjects/{subject}")
    # The rule can only be taken away where there is one.
    for rule in ("FULL", "NONE"):
        speak(our_registry, "PUT", "/config", {"compatibility": rule})
    return our_registry


class TestCodecWithARegistry(CodecContract):
    """The contract, with ids that a real registry gave."""

    @pytest.fixture
    async def codec(self, codec: AvroCodec) -> AvroCodec:
        """The codec of this module."""
        return codec


def test_the_command_asks_releases_and_registry(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`flashsale schema check` before a deployment: 1 while the registry lacks anything, then 0."""
    monkeypatch.setenv("FLASHSALE_SCHEMA_REGISTRY_URL", registry.url)
    assert run_command(["schema", "check"]) == EXIT_FAILED
    said = capsys.readouterr().out
    assert "compatible with every release" in said
    assert said.count("missing") == len(SchemaName)
    assert run_command(["schema", "register"]) == 0
    capsys.readouterr()
    assert run_command(["schema", "check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["standing"] for one in told["registry"]} == {"registered"}


async def test_registering_twice_changes_nothing(registry: Registry) -> None:
    """`flashsale schema register` may run at every deployment."""
    config = RegistryConfig(url=registry.url)
    missing = await check_schemas(config)
    assert [one.schema_id for one in missing] == [None] * len(SchemaName)
    first = await register_schemas(config)
    again = await register_schemas(config)
    assert all(one.is_new for one in first)
    assert not any(one.is_new for one in again)
    assert {one.subject: one.schema_id for one in first} == {
        one.subject: one.schema_id for one in await check_schemas(config)
    }
    assert [one.subject for one in again] == list(SchemaName)
    assert again[0].schema_id == first[0].schema_id


async def test_two_deployments_at_once_register_every_schema_once(registry: Registry) -> None:
    """Whoever comes second finds what the first one registered."""
    config = RegistryConfig(url=registry.url)
    both = await asyncio.gather(*(register_schemas(config) for _ in range(4)))
    ids = [{one.subject: one.schema_id for one in done} for done in both]
    assert all(one == ids[0] for one in ids)


async def test_a_running_process_registers_nothing_and_names_the_command(
    registry: Registry,
) -> None:
    """Without our schemas the start stops; afterwards the registry is as empty as before."""
    with pytest.raises(Conflict, match="run `flashsale schema register`") as missing:
        async with open_codec(config_of(registry)):
            pass
    assert missing.value.code == "schema-not-registered"
    for name in SchemaName:
        assert name in str(missing.value)
    assert speak(registry, "GET", "/subjects") == []


async def test_a_schema_that_breaks_the_subject_s_rule_is_refused_clearly(
    registry: Registry,
) -> None:
    """The registry's own words, for every subject at once, and the others are registered."""
    speak(registry, "PUT", "/config", {"compatibility": "FULL"})
    config = RegistryConfig(url=registry.url)
    for name in (SchemaName.BARRIER, SchemaName.ORDER_CREATED):
        schema = json.loads(schema_texts()[name])
        schema["fields"][0]["type"] = "int"
        put_schema(registry, name, schema)
    standing = {one.subject: one for one in await check_schemas(config)}
    assert not standing[SchemaName.BARRIER].is_compatible
    assert standing[SchemaName.PURCHASE_REQUEST].is_compatible
    with pytest.raises(Conflict, match="the schema registry refuses") as refused:
        await register_schemas(config)
    assert refused.value.code == "schema-incompatible"
    assert SchemaName.BARRIER in str(refused.value)
    assert SchemaName.ORDER_CREATED in str(refused.value)
    assert "Incompatible" in str(refused.value)
    standing = {one.subject: one for one in await check_schemas(config)}
    assert standing[SchemaName.PURCHASE_REJECTED].schema_id is not None


async def test_a_foreign_writer_s_schema_is_fetched_and_resolved(
    codec: AvroCodec, registry_server: Registry
) -> None:
    """An added optional field is read over; one that could hurt is refused with the reason."""
    schema = json.loads(schema_texts()[SchemaName.PURCHASE_REQUEST])
    schema["fields"].append({"name": "colour", "type": ["null", "string"], "default": None})
    added = put_schema(registry_server, "test-registry-added", schema)
    schema["fields"][-1] = {"name": "next", "type": ["null", "PurchaseRequest"], "default": None}
    recursive = put_schema(registry_server, "test-registry-recursive", schema)
    decoded = await codec.decode(
        [
            message(confluent_header(added) + WITHOUT_HEADER + b"\x02\x06red"),
            message(confluent_header(recursive) + WITHOUT_HEADER + b"\x02" * 5_000),
            message(confluent_header(2_000_000_000) + WITHOUT_HEADER),
        ]
    )
    assert decoded[0] == REQUEST
    assert isinstance(decoded[1], Corrupt)
    assert "recursive" in decoded[1].detail
    assert isinstance(decoded[2], Corrupt)
    assert decoded[2].code == "unknown-schema-id"


async def test_what_is_not_avro_is_refused(codec: AvroCodec, registry_server: Registry) -> None:
    """A registry keeps other languages' schemas too."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}
    body = {"schema": json.dumps(schema), "schemaType": "JSON"}
    said = speak(registry_server, "POST", "/subjects/test-registry-json/versions", body)
    (decoded,) = await codec.decode([message(confluent_header(said["id"]) + b"{}")])
    assert isinstance(decoded, Corrupt)
    assert decoded.code == "schema-refused"


async def test_a_registry_that_goes_away_stops_only_what_is_new(registry: Registry) -> None:
    """Known ids are read and ours are written on; a new one waits, and is read afterwards."""
    config = config_of(registry)
    assert config.registry is not None
    await register_schemas(config.registry)
    known = put_schema(registry, "known", schema_texts()[SchemaName.AVRO_PURCHASE_REQUEST])
    schema = json.loads(schema_texts()[SchemaName.PURCHASE_REQUEST])
    schema["fields"].append({"name": "colour", "type": ["null", "string"], "default": None})
    later = message(
        confluent_header(put_schema(registry, "later", schema)) + WITHOUT_HEADER + b"\x00"
    )
    with_event = message(confluent_header(known) + b"\x02e" + WITHOUT_HEADER)
    async with open_codec(config) as codec:
        await codec.decode([with_event])
        registry.stop()
        (read,) = await codec.decode([with_event])
        assert isinstance(read, PurchaseRequest)
        assert read.event_id == EventId("e")
        ours = codec.encode(REQUEST).body
        assert await codec.decode([message(ours)]) == [REQUEST]
        with pytest.raises(Unavailable) as away:
            await codec.decode([with_event, later])
        assert away.value.why is Why.REGISTRY_AWAY
        with pytest.raises(Unavailable):
            async with open_codec(config):
                pass
        registry.start()
        # The codec believes for a moment that it is still away; a restarted process does not.
        async with open_codec(config) as another:
            assert await another.decode([later]) == [REQUEST]


async def test_a_registry_that_hangs_is_away_when_its_deadline_is_over(registry: Registry) -> None:
    """A connection that nobody answers holds a batch for two seconds and not for ever."""
    config = config_of(registry)
    assert config.registry is not None
    await register_schemas(config.registry)
    async with open_codec(config) as codec:
        registry.freeze()
        try:
            begun = time.monotonic()
            with pytest.raises(Unavailable):
                await codec.decode([message(confluent_header(77) + WITHOUT_HEADER)])
            assert time.monotonic() - begun < 2 * REQUEST_S_MAX
        finally:
            registry.thaw()


async def test_basic_auth_lets_in_and_a_wrong_secret_gives_one_clear_error() -> None:
    """As a managed cloud wants it."""
    with running_registry(auth=True) as registry:
        config = config_of(registry)
        assert config.registry is not None
        await register_schemas(config.registry)
        async with open_codec(config) as codec:
            assert schema_id_of(codec.encode(REQUEST).body[:5]) is not None
        for auth in (f"{registry.username}:wrong", None):
            wrong = RegistryConfig(url=registry.url, auth=auth)
            for refused in (register_schemas(wrong), check_schemas(wrong)):
                with pytest.raises(Unavailable, match="check FLASHSALE_SCHEMA_REGISTRY_AUTH"):
                    await refused
            with pytest.raises(Unavailable, match="check FLASHSALE_SCHEMA_REGISTRY_AUTH") as said:
                async with open_codec(AvroConfig(registry=wrong)):
                    pass
            assert "wrong" not in str(said.value)


async def test_a_wrong_path_of_the_registry_is_an_outage_and_no_verdict(
    registry_server: Registry,
) -> None:
    """Otherwise a mistyped URL would call every schema unknown and dead-letter every message."""
    wrong = RegistryConfig(url=registry_server.url + "/typo")
    with pytest.raises(Unavailable, match="answered 404"):
        await check_schemas(wrong)


async def test_json_needs_no_ids_of_ours(registry_server: Registry) -> None:
    """Whoever writes JSON asks the registry only when a foreign message makes it."""
    config = AvroConfig(
        wire_format=WireFormat.JSON, registry=RegistryConfig(url=registry_server.url)
    )
    foreign = put_schema(
        registry_server, "test-registry-foreign", schema_texts()[SchemaName.PURCHASE_REQUEST]
    )
    async with open_codec(config) as codec:
        assert codec.encode(REQUEST).content_type == "application/json"
        framed = message(confluent_header(foreign) + WITHOUT_HEADER)
        assert await codec.decode([framed]) == [REQUEST]
