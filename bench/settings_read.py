"""What the servers say of their own durability: read back, not believed."""

from __future__ import annotations

import asyncio
import os
import platform
from pathlib import Path
from typing import Any

import asyncpg

from bench.place import Servers, place
from flashsale_rabbitmq.shapes import QueueShape, as_found

POSTGRES = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
REDIS = ("appendonly", "appendfsync", "maxmemory-policy")
QUEUE_DIFFERENCES_MAX = 10
KAFKA = ("min.insync.replicas", "cleanup.policy", "retention.ms")


def machine() -> dict[str, str]:
    """Describe where it ran."""
    cpu = "unknown"
    memory_kib = 0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory_kib = int(line.split()[1])
    cores = str(len(os.sched_getaffinity(0)))
    return {
        "cpu": cpu,
        "cores": cores,
        "memory": f"{memory_kib / 1024 / 1024:.0f} GiB",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def settings_of(servers: Servers) -> dict[str, str]:
    """Ask each server for the settings that a figure depends on."""
    found = asyncio.run(_postgres(servers.postgres.url)) | _redis(servers.redis.url)
    with place(servers) as here:
        url, names = servers.bus.url, here.engine.settings
        if servers.bus.kind == "kafka":
            found |= asyncio.run(_kafka(url, names["FLASHSALE_ACCEPTED_TOPIC"]))
        else:
            found |= asyncio.run(_rabbitmq(url, f"{names['FLASHSALE_ACCEPTED_TOPIC']}.0"))
    return found


async def _postgres(url: str) -> dict[str, str]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return {
            f"postgres {name}": str(await connection.fetchval(f"SHOW {name}")) for name in POSTGRES
        }
    finally:
        await connection.close()


def _redis(url: str) -> dict[str, str]:
    import redis  # noqa: PLC0415 - an extra

    with redis.Redis.from_url(url, decode_responses=True) as client:
        version: Any = client.info("server")
        settings = {f"redis {name}": client.config_get(name)[name] for name in REDIS}
        return {"redis version": str(version["redis_version"]), **settings}


async def _kafka(url: str, topic: str) -> dict[str, str]:
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - an extra
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: PLC0415

    from flashsale_kafka.producing import ACKS  # noqa: PLC0415

    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [answer] = await admin.describe_configs([resource])
        [described] = await admin.describe_topics([topic])
    finally:
        await admin.close()
    values = {row[0]: row[1] for row in answer.resources[0][4]}
    found = {f"kafka {name}": str(values[name]) for name in KAFKA}
    partitions = described["partitions"]
    return {
        **found,
        "kafka replicas": str(len(partitions[0]["replicas"])),
        "kafka partitions": str(len(partitions)),
        "kafka producer acks": ACKS,
    }


async def _rabbitmq(url: str, queue: str) -> dict[str, str]:
    import aio_pika  # noqa: PLC0415 - an extra

    async with await aio_pika.connect(url) as connection:
        version = connection.transport.connection.server_properties["version"]  # type: ignore[union-attr]
        return {"rabbitmq version": str(version), "rabbitmq queue": await _queue_shape(url, queue)}


async def _queue_shape(url: str, queue: str) -> str:
    """Find the shape that the broker lets a queue be declared as again: only its own."""
    import aio_pika  # noqa: PLC0415 - an extra

    shape: QueueShape | None = QueueShape(name=queue, arguments={})
    # The broker names one difference at a time.
    for _ in range(QUEUE_DIFFERENCES_MAX):
        if shape is None:
            break
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            try:
                await channel.declare_queue(
                    queue, durable=shape.durable, arguments=dict(shape.arguments)
                )
            except aio_pika.exceptions.ChannelPreconditionFailed as refused:
                shape = as_found(shape, str(refused))
            else:
                return str(shape)
    return "unknown"
