"""What may be wrong with Kafka's brokers and topics, and what mends each."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import TopicPartition

from flashsale_core.errors import Unavailable
from flashsale_core.opening import BusOptions
from flashsale_core.operating import Backlog, Finding, OperateBus, wrong
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import client_options, connection_options, knock, quiet_driver
from flashsale_kafka.faults import DRIVER_ERRORS, LOGIN, MECHANISM, RIGHTS, translated
from flashsale_kafka.opening import config_of
from flashsale_kafka.topics import ensure_topics, topology_faults

ADVICE: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        LOGIN,
        "kafka login",
        "set FLASHSALE_KAFKA_USERNAME and FLASHSALE_KAFKA_PASSWORD to an account of the brokers",
    ),
    (MECHANISM, "kafka login", "set FLASHSALE_KAFKA_SASL_MECHANISM to one that the brokers offer"),
    (
        RIGHTS,
        "kafka rights",
        "kafka-acls.sh --add --allow-principal User:<user> --operation All --topic <topic>",
    ),
)
"""Which errors are a person's to mend: the finding's name, and what to type."""
TLS_ADVICE = (
    "set FLASHSALE_KAFKA_CA to the brokers' authority (PEM), and "
    "FLASHSALE_KAFKA_SECURITY_PROTOCOL to what that port speaks"
)
AWAY_ADVICE = "start the brokers, or correct FLASHSALE_BUS_URL (kafka://host:port)"
COORDINATOR_LOOK_S = 0.2
"""The first question about a group makes a fresh broker choose; it takes about a second."""
ENSURE = "flashsale topics ensure"
ALTER = (
    "kafka-configs.sh --alter --entity-type topics --entity-name <topic> --add-config "
    "retention.ms=1209600000,cleanup.policy=delete,min.insync.replicas=<wanted>; partitions by "
    "kafka-topics.sh --alter, replicas by kafka-reassign-partitions.sh"
)


class KafkaOperator:
    """Looks after the topics; connects and disconnects in each call."""

    def __init__(self, url: str, options: BusOptions) -> None:
        """Remember where the brokers are and what the topics are called."""
        self._config: KafkaConfig = config_of(url, options)

    async def ensure(self) -> list[str]:
        """See `BusOperator.ensure`."""
        with quiet_driver():
            return await ensure_topics(self._config)

    async def accepted_backlog(self) -> Backlog:
        """See `BusOperator.accepted_backlog`."""
        with quiet_driver():
            options = await connection_options(self._config)
            await knock(self._config, options)
            try:
                async with asyncio.timeout(self._config.deadline_ms / 1_000):
                    return await self._counted(client_options(self._config, options))
            except DRIVER_ERRORS as exc:
                raise translated(exc, f"counting what waits on {self._config.accepted}") from exc

    async def _counted(self, options: dict[str, Any]) -> Backlog:
        """Count, as soon as a broker that just began knows who looks after the group."""
        while True:
            try:
                return await self._count(options)
            except GroupCoordinatorNotAvailableError:
                await asyncio.sleep(COORDINATOR_LOOK_S)

    async def _count(self, options: dict[str, Any]) -> Backlog:
        """Compare the partitions' ends with what the group has committed, and join nothing."""
        topic, group = self._config.accepted, self._config.accepted_group
        async with AsyncExitStack() as stack:
            admin = AIOKafkaAdminClient(request_timeout_ms=self._config.connect_ms, **options)
            stack.push_async_callback(admin.close)
            await admin.start()
            reader = AIOKafkaConsumer(enable_auto_commit=False, **options)
            stack.push_async_callback(reader.stop)
            await reader.start()
            committed = await admin.list_consumer_group_offsets(group)
            partitions = [TopicPartition(topic, n) for n in range(self._config.partitions)]
            begins = await reader.beginning_offsets(partitions)
            ends = await reader.end_offsets(partitions)
            [described] = await admin.describe_consumer_groups([group])
        done = {tp: mark.offset for tp, mark in committed.items() if mark.offset >= 0}
        waiting = [ends[tp] - max(begins[tp], done.get(tp, 0)) for tp in partitions]
        return Backlog(messages=sum(waiting), consumers=_members(described))

    async def diagnose(self) -> list[Finding]:
        """See `BusOperator.diagnose`; without an answer there is one finding only."""
        with quiet_driver():
            try:
                await knock(self._config, await connection_options(self._config))
                faults = await topology_faults(self._config)
            except Unavailable as away:
                return [_away(away)]
        reached = Finding(name="kafka reachable", said=",".join(self._config.brokers))
        if not faults:
            said = f"{len(self._config.topics)} topics, kept and replicated as they must be"
            return [reached, Finding(name="kafka topics", said=said)]
        missing = [fault for fault in faults if fault.endswith("is missing")]
        others = [wrong("kafka topics", fault, ALTER) for fault in faults if fault not in missing]
        if missing:
            others.insert(0, wrong("kafka topics", "; ".join(missing), ENSURE))
        return [reached, *others]


def _members(described: Any) -> int:
    """Count a group's members in the answer about it."""
    *_, group = described.to_object()["groups"]
    return len(group["members"])


def _away(away: Unavailable) -> Finding:
    cause = away.__cause__
    for kinds, name, fix in ADVICE:
        if isinstance(cause, kinds):
            return wrong(name, away.detail, fix)
    # Python's own error where the cause is TLS; aiokafka hides some behind its connection error.
    if "SSL" in away.detail or "certificate" in away.detail or "authority" in away.detail:
        return wrong("kafka TLS", away.detail, TLS_ADVICE)
    return wrong("kafka reachable", away.detail, AWAY_ADVICE)


_: OperateBus = KafkaOperator
