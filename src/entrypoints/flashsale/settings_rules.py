"""Which settings do not fit together, or do not fit the program that is started."""

import ipaddress
import platform
from collections.abc import Callable, Iterator
from importlib import import_module

from flashsale import faults, tracing
from flashsale.entry_points import AdapterMissing, Group, opener, point_of
from flashsale.setting_kinds import Url
from flashsale.settings import (
    Durability,
    Entrypoint,
    JournalLoss,
    SecurityProtocol,
    Settings,
    TracesTo,
    WireFormat,
)
from flashsale_core.validation import PurchaseRule

Problem = tuple[str, str]
"""The setting's name, and what is wrong with it."""


def problems_of(settings: Settings, entrypoint: Entrypoint) -> list[Problem]:
    """List everything that keeps this program from starting with these settings."""
    checks: tuple[Callable[[Settings, Entrypoint], Iterator[Problem]], ...] = (
        _adapters,
        _one_process,
        _several_processes,
        _journal,
        _admin_token,
        _kafka_security,
        _wire_format,
        _waits,
        _registry,
        _rules,
        _payment,
        _faults,
        _traces,
    )
    return [problem for check in checks for problem in check(settings, entrypoint)]


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def load_rules(settings: Settings) -> tuple[PurchaseRule, ...]:
    """Import the rules of the user's own; raises ValueError that names the one that fails."""
    return tuple(_load_rule(path) for path in settings.rules)


def _load_rule(path: str) -> PurchaseRule:
    module, colon, function = path.partition(":")
    if not colon or not function:
        raise ValueError(f"{path!r} must be package.module:function")
    try:
        rule = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ValueError(f"{path!r} cannot be imported: {exc}") from exc
    if not callable(rule):
        raise ValueError(f"{path!r} is not a function")  # noqa: TRY004 - one kind for the caller
    return rule  # type: ignore[no-any-return]


def _adapters(settings: Settings, entrypoint: Entrypoint) -> Iterator[Problem]:
    # A command opens what it needs, which may be nothing: `buy --url` talks HTTP.
    find = point_of if entrypoint is Entrypoint.COMMAND else opener
    urls: tuple[tuple[str, Group, Url], ...] = (
        ("gate_url", Group.GATES, settings.gate_url),
        ("bus_url", Group.BUSES, settings.bus_url),
        ("database_url", Group.DATABASES, settings.database_url),
    )
    if settings.payment_url is not None:
        urls = (*urls, ("payment_url", Group.PAYMENTS, settings.payment_url))
    for name, group, url in urls:
        try:
            find(group, url)
        except AdapterMissing as missing:
            yield name, str(missing)


def _one_process(settings: Settings, entrypoint: Entrypoint) -> Iterator[Problem]:
    """Keep what lives in one process, or allows one, from programs that are two."""
    many = entrypoint in (Entrypoint.SERVE, Entrypoint.WORKER)
    if many and settings.gate_url.is_memory:
        yield (
            "gate_url",
            (
                "memory:// counts units inside one process, and `serve` and `worker` are two: each "
                "would sell the whole stock. Name a redis:// gate, or use `flashsale run`"
            ),
        )
    if many and settings.bus_url.is_memory:
        yield (
            "bus_url",
            (
                "memory:// ends with its process, and `serve` and `worker` are two: what one "
                "accepts the other never sees. Name kafka:// or amqp://, or use `flashsale run`"
            ),
        )
    if many and settings.database_url.scheme.startswith("sqlite"):
        yield (
            "database_url",
            (
                "SQLite is for one process (`flashsale run`): several would wait for each other's "
                "locks. Name postgresql+asyncpg://"
            ),
        )
    if settings.gate_url.is_memory and not settings.bus_url.is_memory:
        yield (
            "gate_url",
            (
                "memory:// forgets at every restart what was promised, and a promise may then "
                "still wait on the bus. A memory gate goes with a memory bus: name both, or neither"
            ),
        )


def _several_processes(settings: Settings, entrypoint: Entrypoint) -> Iterator[Problem]:
    if settings.http_processes == 1:
        return
    if entrypoint is Entrypoint.RUN:
        yield "http_processes", "is for `flashsale serve`; this is one process"
    # Elsewhere a shared port gives all connections to one of those who listen.
    if entrypoint is Entrypoint.SERVE and platform.system() != "Linux":
        yield "http_processes", "needs Linux, which deals connections out among processes"


def _journal(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    is_journaled = settings.durability is Durability.JOURNALED
    accepts_loss = settings.journal_loss is JournalLoss.ACCEPT
    if is_journaled and settings.gate_url.is_memory and not accepts_loss:
        yield (
            "durability",
            (
                "journaled keeps promises in the gate alone, and memory:// forgets them with the "
                "process. Name a redis:// gate, or leave it at confirmed"
            ),
        )
    if accepts_loss and not is_journaled:
        yield "journal_loss", "goes with FLASHSALE_DURABILITY=journaled, which is not set"


def _admin_token(settings: Settings, entrypoint: Entrypoint) -> Iterator[Problem]:
    opens_a_door = entrypoint in (Entrypoint.SERVE, Entrypoint.RUN)
    if opens_a_door and settings.admin_token is None and not is_loopback(settings.http_host):
        yield (
            "admin_token",
            (
                f"is missing: without one everybody who reaches {settings.http_host} could open "
                "and close sales. Set one, or listen on 127.0.0.1"
            ),
        )


def _kafka_security(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    protocol = settings.kafka_security_protocol
    credentials = {
        "kafka_sasl_mechanism": settings.kafka_sasl_mechanism,
        "kafka_username": settings.kafka_username,
        "kafka_password": settings.kafka_password,
    }
    has_sasl = protocol in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL)
    for name, value in credentials.items():
        if has_sasl and value is None:
            yield name, f"is missing: {protocol} needs it"
        if not has_sasl and value is not None:
            yield name, f"would not be used: FLASHSALE_KAFKA_SECURITY_PROTOCOL is {protocol}"
    if settings.kafka_ca is not None and not settings.kafka_ca.is_file():
        yield "kafka_ca", f"no file {settings.kafka_ca}"


def _wire_format(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    if settings.wire_format is WireFormat.JSON and settings.bus_url.scheme == "kafka":
        yield "wire_format", "json is for RabbitMQ; readers of Kafka topics expect avro"


def _waits(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    if settings.backoff_initial_ms > settings.backoff_max_ms:
        yield "backoff_initial_ms", f"must not be above backoff_max_ms ({settings.backoff_max_ms})"


def _registry(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    auth, url = settings.schema_registry_auth, settings.schema_registry_url
    if auth is None:
        return
    if url is None:
        yield "schema_registry_auth", "would not be used: FLASHSALE_SCHEMA_REGISTRY_URL is missing"
    if ":" not in auth.get_secret_value():
        yield "schema_registry_auth", "must be user:password"


def _rules(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    for path in settings.rules:
        try:
            _load_rule(path)
        except ValueError as wrong:
            yield "rules", str(wrong)


def _faults(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    """Break a process only where somebody said twice that it should be broken."""
    if settings.faults is None:
        if settings.faults_allowed is not None:
            yield "faults_allowed", "goes with FLASHSALE_FAULTS, which is missing: set both or none"
        return
    if settings.faults_allowed is None:
        yield "faults", "would break this process; FLASHSALE_FAULTS_ALLOWED=yes must allow it"
    try:
        faults.parse(settings.faults)
    except ValueError as wrong:
        yield "faults", str(wrong)


def _traces(settings: Settings, entrypoint: Entrypoint) -> Iterator[Problem]:
    if settings.traces is TracesTo.OFF or entrypoint is Entrypoint.COMMAND:
        return
    try:
        tracing.look_at_environment()
    except (AdapterMissing, ValueError) as wrong:
        yield "traces", str(wrong)


def _payment(settings: Settings, _: Entrypoint) -> Iterator[Problem]:
    deadline_ms = settings.payment_deadline_ms
    if settings.payment_lease_ms <= 2 * deadline_ms:
        yield "payment_lease_ms", f"must be above two deadlines (payment_deadline_ms {deadline_ms})"
    retry_max_ms = settings.payment_retry_max_ms
    if settings.payment_retry_initial_ms > retry_max_ms:
        yield (
            "payment_retry_initial_ms",
            f"must not be above payment_retry_max_ms ({retry_max_ms})",
        )
    if settings.payment_auth is not None and settings.payment_url is None:
        yield "payment_auth", "would not be used: FLASHSALE_PAYMENT_URL is missing"
