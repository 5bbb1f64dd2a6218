"""How `kafka://` is opened."""

from contextlib import AbstractAsyncContextManager

from flashsale_core.opening import BusOptions, OpenBus
from flashsale_kafka.bus import KafkaBus, open_kafka_bus
from flashsale_kafka.config import KafkaConfig


def config_of(url: str, options: BusOptions) -> KafkaConfig:
    """Write the options as this adapter's own."""
    names, security = options.names, options.security
    return KafkaConfig(
        url=url,
        security_protocol=security.protocol,
        sasl_mechanism=security.mechanism or "PLAIN",
        username=security.username,
        password=security.password,
        ca_file=security.ca_file,
        requests=names.requests,
        accepted=names.accepted,
        orders=names.orders,
        dead_letters=names.dead_letters or f"{names.requests}-dlt",
        requests_group=names.requests_group,
        accepted_group=names.accepted_group,
        partitions=options.partitions,
        session_ms=options.session_ms,
    )


def open_bus(url: str, options: BusOptions) -> AbstractAsyncContextManager[KafkaBus]:
    """Open the bus."""
    return open_kafka_bus(config_of(url, options), options.codec)


_: OpenBus = open_bus
