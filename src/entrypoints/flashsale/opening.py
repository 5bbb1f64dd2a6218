"""Opens what the settings name, each as an async context manager; leaving it closes.

Opening waits for no server: a process starts, says that it is not ready, and goes on when the
server is there. The exception is a schema registry, whose numbers must be known before writing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from flashsale.entry_points import AdapterMissing, Group, opener, schemes
from flashsale.settings import Settings
from flashsale_core.opening import (
    BusNames,
    BusOptions,
    BusSecurity,
    CheckedGate,
    Database,
    DatabaseOptions,
    GateOptions,
    OpenBus,
    OpenDatabase,
    OpenGate,
    OpenPayment,
    PaymentOptions,
)
from flashsale_core.operating import BusOperator, GateOperator, OperateBus, OperateGate
from flashsale_core.ports import Clock, Codec, EventBus, PaymentGateway
from flashsale_core.rates import RateLimits


def opened_gate(
    settings: Settings, clock: Clock, *, may_install: bool
) -> AbstractAsyncContextManager[CheckedGate]:
    """Open the gate; `may_install` lets it bring its functions into its server."""
    open_gate: OpenGate = opener(Group.GATES, settings.gate_url)
    options = GateOptions(
        clock=clock,
        namespace=settings.namespace,
        reserved_due_ms=settings.journal_reserved_due_ms,
        queued_due_ms=settings.journal_queued_due_ms,
        may_install=may_install,
        rates=RateLimits(per_user=settings.rate_per_user, per_address=settings.rate_per_address),
    )
    return open_gate(settings.gate_url.text, options)


def gate_operator(settings: Settings) -> GateOperator | None:
    """Find who looks after the gate's server; None where nobody needs to."""
    if settings.gate_url.scheme not in schemes(Group.GATE_OPERATORS):
        return None
    operate: OperateGate = opener(Group.GATE_OPERATORS, settings.gate_url)
    return operate(settings.gate_url.text, settings.namespace)


def opened_bus(settings: Settings, codec: Codec) -> AbstractAsyncContextManager[EventBus]:
    """Open the bus."""
    open_bus: OpenBus = opener(Group.BUSES, settings.bus_url)
    return open_bus(settings.bus_url.text, bus_options(settings, codec))


def bus_names(settings: Settings) -> BusNames:
    """Say what the settings call the channels."""
    return BusNames(
        requests=settings.requests_topic,
        accepted=settings.accepted_topic,
        orders=settings.orders_topic,
        dead_letters=settings.dead_letter_topic,
        exchange=settings.exchange,
        requests_group=settings.consumer_group,
        accepted_group=settings.accepted_group,
    )


def bus_options(settings: Settings, codec: Codec) -> BusOptions:
    """Write what the settings say of the bus as its adapters take it."""
    password = settings.kafka_password
    security = BusSecurity(
        protocol=settings.kafka_security_protocol.value,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=password.get_secret_value() if password is not None else None,
        ca_file=str(settings.kafka_ca) if settings.kafka_ca is not None else None,
    )
    return BusOptions(
        codec=codec,
        names=bus_names(settings),
        partitions=settings.partitions,
        session_ms=settings.kafka_session_ms,
        security=security,
    )


def bus_operator(settings: Settings, codec: Codec) -> BusOperator | None:
    """Make what looks after the bus's topics or queues; None where its adapter offers nothing."""
    if settings.bus_url.scheme not in schemes(Group.BUS_OPERATORS):
        return None
    operate: OperateBus = opener(Group.BUS_OPERATORS, settings.bus_url)
    return operate(settings.bus_url.text, bus_options(settings, codec))


def opened_database(
    settings: Settings, *, before_commit: Callable[[], Awaitable[None]] | None = None
) -> AbstractAsyncContextManager[Database]:
    """Open the database; `before_commit` is where a drill breaks a batch off."""
    open_database: OpenDatabase = opener(Group.DATABASES, settings.database_url)
    options = DatabaseOptions(pool_size=settings.database_connections, before_commit=before_commit)
    return open_database(settings.database_url.text, options)


@asynccontextmanager
async def opened_payment(
    settings: Settings, *, carried: Callable[[], Mapping[str, str]] | None = None
) -> AsyncIterator[PaymentGateway | None]:
    """Open the payment gateway; None where none is configured.

    `carried` names further headers of each call.
    """
    if settings.payment_url is None:
        yield None
        return
    open_payment: OpenPayment = opener(Group.PAYMENTS, settings.payment_url)
    auth = settings.payment_auth
    options = PaymentOptions(
        deadline_ms=settings.payment_deadline_ms,
        auth=auth.get_secret_value() if auth is not None else None,
        carried=carried,
    )
    async with open_payment(settings.payment_url.text, options) as gateway:
        yield gateway


@asynccontextmanager
async def opened_codec(settings: Settings) -> AsyncIterator[Codec]:
    """Open the codec; with a schema registry, it is asked for the numbers of our schemas.

    Raises Unavailable(REGISTRY_AWAY) and Conflict("schema-not-registered").
    """
    try:
        from flashsale_avro import (  # noqa: PLC0415 - an extra that a command may lack
            AvroConfig,
            RegistryConfig,
            WireFormat,
            open_codec,
        )
    except ImportError as exc:
        missing = f"messages need {exc.name}, which is not installed: pip install 'flashsale[avro]'"
        raise AdapterMissing(missing) from exc
    registry = None
    if settings.schema_registry_url is not None:
        auth = settings.schema_registry_auth
        registry = RegistryConfig(
            url=settings.schema_registry_url.text,
            auth=auth.get_secret_value() if auth is not None else None,
        )
    config = AvroConfig(wire_format=WireFormat(settings.wire_format.value), registry=registry)
    async with open_codec(config) as codec:
        yield codec
