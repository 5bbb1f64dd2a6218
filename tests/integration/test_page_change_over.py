"""The change over from flashsale-purchase-processor, typed as its page says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from flashsale_avro import SchemaName
from flashsale_avro.framing import confluent_header
from flashsale_avro.schema_files import schema_texts
from tests.docs.pages import ROOT
from tests.docs.reader import reader
from tests.integration.crowds import orders
from tests.integration.engine import Engine
from tests.integration.outside import Sent, sender
from tests.integration.test_outside_door import put_schema, written
from tests.servers import Registry

pytestmark = pytest.mark.timeout(240)

OLD_GROUP_HAD = 2


async def _the_old_consumer(bare_engine: Engine, registry: Registry) -> None:
    """Five requests came, in both forms; it has processed two, committed that, and left."""
    sent = []
    for number in range(5):
        name = "AvroPurchaseRequest" if number % 2 else "PurchaseRequest"
        schema = json.loads(schema_texts()[SchemaName(f"ch.luimode.flashsale.{name}")])
        header = confluent_header(put_schema(registry, f"ch.luimode.flashsale.{name}", schema))
        fields = {"purchaseId": f"r{number}", "userId": f"u{number}", "itemId": "7"}
        body = written(schema, **fields, eventId="black-friday")
        sent.append(Sent(b"of one partition", header + body))
    async with sender(bare_engine) as send:
        await send(sent)
    old = AIOKafkaConsumer(
        bootstrap_servers=bare_engine.settings["FLASHSALE_BUS_URL"].removeprefix("kafka://"),
        group_id=bare_engine.settings["FLASHSALE_CONSUMER_GROUP"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    old.subscribe([bare_engine.settings["FLASHSALE_REQUESTS_TOPIC"]])
    await old.start()
    try:
        first = await old.getone()
        where = TopicPartition(first.topic, first.partition)
        await old.commit({where: OLD_GROUP_HAD})
    finally:
        await old.stop()


def test_a_flashsale_purchase_processor_is_replaced(
    bare_engine: Engine, tmp_path: Path, registry_server: Registry
) -> None:
    """Under its group the worker begins where it has committed: nothing twice, nothing lost."""
    with reader(tmp_path, bare_engine.env) as somebody:
        bare_engine.must("topics", "ensure")
        asyncio.run(_the_old_consumer(bare_engine, registry_server))
        somebody.read(ROOT / "docs/migrate-from-purchase-processor.md")
    assert asyncio.run(orders(bare_engine, "7.1")) == {"CONFIRMED": 5 - OLD_GROUP_HAD}
