"""What may be wrong with Kafka's brokers and topics, and what mends each."""

from flashsale_core.errors import Unavailable
from flashsale_core.opening import BusOptions
from flashsale_core.operating import Finding, OperateBus, wrong
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import connection_options, knock, quiet_driver
from flashsale_kafka.faults import LOGIN, MECHANISM, RIGHTS
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
        return [reached, *(_topic(fault) for fault in faults)]


def _topic(fault: str) -> Finding:
    return wrong("kafka topics", fault, ENSURE if fault.endswith("is missing") else ALTER)


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
