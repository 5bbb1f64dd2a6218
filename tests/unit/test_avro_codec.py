"""The Avro codec keeps the contract in each form that it writes."""

import asyncio
from collections.abc import Mapping

import pytest

from flashsale_avro import AvroCodec, NoSuchSchema, SchemaName, WireFormat, schema_texts
from flashsale_core.testing.codec import CodecContract

OWN_IDS = {name: number for number, name in enumerate(SchemaName, start=100)}


class RegistryOfOurs:
    """A registry that has what it was given and nothing else."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        """Have these schemas, by id."""
        self.texts = dict(texts)
        self.asked: list[int] = []

    async def schema(self, schema_id: int) -> str:
        """Answer as a registry does."""
        self.asked.append(schema_id)
        # A real one lets others run meanwhile.
        await asyncio.sleep(0)
        if schema_id not in self.texts:
            raise NoSuchSchema(str(schema_id))
        return self.texts[schema_id]


class TestSingleObjectEncoding(CodecContract):
    """Without a registry: the schema is named by its fingerprint."""

    @pytest.fixture
    def codec(self) -> AvroCodec:
        """A codec without a registry."""
        return AvroCodec()


class TestConfluentFraming(CodecContract):
    """With a registry: the schema is named by the registry's id."""

    @pytest.fixture
    def codec(self) -> AvroCodec:
        """A codec whose registry has our schemas."""
        registry = RegistryOfOurs({OWN_IDS[name]: text for name, text in schema_texts().items()})
        return AvroCodec(registry, own_ids=OWN_IDS)


class TestJson(CodecContract):
    """JSON, for brokers whose users read their messages."""

    @pytest.fixture
    def codec(self) -> AvroCodec:
        """A codec that writes JSON."""
        return AvroCodec(wire_format=WireFormat.JSON)
