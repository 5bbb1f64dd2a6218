"""Every setting of the application: one frozen class, built once at the start.

In the environment a setting is `FLASHSALE_` and its name in capitals; in the file that
`FLASHSALE_CONFIG` names (TOML), its name as it stands here. `settings_loading` reads them.
"""

from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote

import attrs
from typed_settings import Secret

from flashsale.fault_points import Permission
from flashsale.setting_choices import Durability as Durability  # noqa: PLC0414 - part of the settings
from flashsale.setting_choices import JournalLoss as JournalLoss  # noqa: PLC0414 - the same
from flashsale.setting_choices import LogLevel as LogLevel  # noqa: PLC0414 - the same
from flashsale.setting_choices import SaslMechanism as SaslMechanism  # noqa: PLC0414 - the same
from flashsale.setting_choices import SecurityProtocol as SecurityProtocol  # noqa: PLC0414 - the same
from flashsale.setting_choices import WireFormat as WireFormat  # noqa: PLC0414 - the same
from flashsale.setting_kinds import (
    Address,
    Url,
    address,
    choice,
    file,
    name,
    namespace,
    networks,
    secret,
    text,
    texts,
    url,
    whole,
)

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


class Entrypoint(StrEnum):
    """Which of the application's programs the settings are for; some rules differ."""

    RUN = "run"
    SERVE = "serve"
    WORKER = "worker"
    COMMAND = "command"
    """A command of the command line that looks or changes something and ends."""


@attrs.frozen(kw_only=True)
class Settings:
    """All settings, each valid by itself; `settings_rules` says which do not fit together."""

    gate_url: Url = url(
        "memory://",
        """Where units are counted: redis://, rediss://, redis+cluster://host:port,host:port,
        rediss+cluster:// or memory://. In memory by default, so that `flashsale run` needs no
        server.""",
    )
    bus_url: Url = url(
        "memory://",
        """What carries accepted purchases to the workers: kafka://host:port,host:port, amqp://,
        amqps:// or memory://. In memory by default, so that `flashsale run` needs no server.""",
    )
    database_url: Url = url(
        "sqlite+aiosqlite:///data/flashsale.db",
        """Where orders and sales are kept: postgresql+asyncpg:// or sqlite+aiosqlite://. A file
        by default, which `flashsale run` makes and migrates by itself.""",
    )
    schema_registry_url: Url | None = url(
        None,
        """Confluent-compatible schema registry. Without one, messages are written in Avro's
        single-object encoding, which needs none.""",
    )
    schema_registry_auth: Secret[str] | None = secret(
        "User and password of the schema registry, as user:password."
    )

    payment_url: Url | None = url(
        None,
        """Payment gateway that charges for what is sold: http:// or https://. Without one, an order
        is CONFIRMED unpaid; with one, every sale needs a price.""",
    )
    payment_auth: Secret[str] | None = secret(
        "Bearer token that the payment gateway is called with."
    )

    http_host: str = text(
        "127.0.0.1",
        """Host that the HTTP API listens on. Loopback by default: any other needs an admin
        token.""",
    )
    http_port: int = whole(8080, 1, 65535, "Port that the HTTP API listens on.")
    http_processes: int = whole(
        1,
        1,
        64,
        """Processes that `flashsale serve` runs on its port, side by side: about one for each core
        that neither Redis nor a worker needs. Linux only, if more than one.""",
    )
    admin_token: Secret[str] | None = secret(
        """Bearer token of the admin routes. Required unless the API listens on loopback only."""
    )
    cors_origins: tuple[str, ...] = texts(
        """Origins whose pages may call the API from a browser, with commas between them; none by
        default."""
    )
    rate_per_user: int = whole(
        0,
        0,
        1_000_000,
        """New purchases that one user may ask for in 10 s over HTTP, in one sale; beyond it 429
        `rate-limited`. A retry is never counted. 0: any number.""",
    )
    rate_per_address: int = whole(
        0,
        0,
        1_000_000,
        """The same for one address (IPv6: one /64). Many buyers may share one, behind an office or
        a mobile network: be generous. 0: any number.""",
    )
    trusted_proxies: tuple[str, ...] = networks(
        """Networks of proxies whose X-Forwarded-For is believed, with commas between them. By
        default a buyer's address is the connection's own."""
    )
    worker_http: Address = address(
        "127.0.0.1:8081",
        "Host and port of the worker's own /healthz, /readyz and /metrics. Loopback by default.",
    )
    log_level: LogLevel = choice(
        LogLevel.INFO, LogLevel, "From which weight on a log line is written."
    )

    durability: Durability = choice(
        Durability.CONFIRMED,
        Durability,
        """When a buyer is told ACCEPTED. `confirmed`: after the broker confirmed the purchase.
        `journaled`: as soon as the gate has journaled it, which is sooner, and as safe as that
        server alone: it must run with appendfsync always and without replicas.""",
    )
    journal_loss: JournalLoss = choice(
        JournalLoss.REFUSE,
        JournalLoss,
        """With `journaled`: `refuse` does not start on a gate that could forget what it answered;
        `i-accept-loss` does, and promises may then be lost with it.""",
    )
    wire_format: WireFormat = choice(
        WireFormat.AVRO,
        WireFormat,
        """How messages are written: avro, or json (RabbitMQ only). Every form is read.""",
    )
    rules: tuple[str, ...] = texts(
        """Rules of your own, as package.module:function with commas between them, asked of every
        new purchase at both doors."""
    )

    namespace: str = namespace(
        "fs", "What the gate's keys begin with; installations that share a Redis differ here."
    )
    consumer_group: str = name(
        "flashsale-purchase-processor", "Kafka consumer group of the requests topic."
    )
    accepted_group: str = name(
        "flashsale-purchase-accepted", "Kafka consumer group of the accepted topic."
    )
    requests_topic: str = name(
        "flashsale.purchase.requests",
        "Kafka topic, or RabbitMQ queue, of the outside door: any service may write there.",
    )
    accepted_topic: str = name(
        "flashsale.purchase.accepted",
        """Kafka topic of accepted purchases; on RabbitMQ the queues are called this, a dot, and a
        number. Only the engine writes there.""",
    )
    orders_topic: str = name(
        "flashsale.orders", "Kafka topic, or RabbitMQ routing key, of OrderCreated and so on."
    )
    dead_letter_topic: str | None = name(
        None,
        """Kafka topic, or RabbitMQ queue, of dead letters' copies. By default the requests topic
        with -dlt (Kafka) or .dlq (RabbitMQ), as the tools of each expect.""",
    )
    exchange: str = name("flashsale", "RabbitMQ topic exchange that everything goes through.")
    partitions: int = whole(
        8,
        1,
        128,
        """Partitions of the accepted topic (Kafka), or how many accepted queues there are
        (RabbitMQ). Each is handled strictly in order, so this bounds how much workers do side by
        side; 8 keeps four workers busy.""",
    )

    kafka_security_protocol: SecurityProtocol = choice(
        SecurityProtocol.PLAINTEXT,
        SecurityProtocol,
        "How the brokers are talked to. A managed cloud wants SASL_SSL.",
    )
    kafka_sasl_mechanism: SaslMechanism | None = choice(
        None, SaslMechanism, "How the brokers are told who we are; needed with SASL_*."
    )
    kafka_username: str | None = text(None, "User name for the brokers; needed with SASL_*.")
    kafka_password: Secret[str] | None = secret("Password for the brokers; needed with SASL_*.")
    kafka_ca: Path | None = file(
        "File with the certificate authority of the brokers (PEM); by default the system's own."
    )

    kafka_session_ms: int = whole(
        10_000,
        1_000,
        5 * MINUTE_MS,
        """How long a worker that was killed is believed to be alive, before the others take over
        its partitions. Brokers allow 6 s or more as shipped (group.min.session.timeout.ms).""",
    )

    sweep_interval_ms: int = whole(
        2_000,
        100,
        MINUTE_MS,
        """Between two rounds of the sweeper, which publishes lost purchases again. With the delay
        of a reserved one (10 s) a lost purchase is an order within 15 s.""",
    )
    rebuild_interval_ms: int = whole(
        500,
        50,
        MINUTE_MS,
        """Between two looks of a worker at every sale's gate; one that is lost is rebuilt at once.
        Half a second of the few that a rebuild takes.""",
    )
    reconcile_interval_ms: int = whole(
        60_000,
        100,
        24 * 60 * MINUTE_MS,
        """Between two comparisons of gate and database by a worker, purchase by purchase. A drift
        is told when it was seen three times in a row; each look reads all rows of a sale.""",
    )
    settled_keep_ms: int = whole(
        DAY_MS,
        0,
        30 * DAY_MS,
        """How long the gate keeps a settled sale's books, so that a retry gets its old answer.""",
    )
    journal_reserved_due_ms: int = whole(
        10_000,
        2_000,
        10 * MINUTE_MS,
        """After this a purchase that is not known to be on the bus is published again. Well above
        the 0.8 s of the hot path, so that a publish in flight is not doubled.""",
    )
    journal_queued_due_ms: int = whole(
        10 * MINUTE_MS,
        10_000,
        24 * 60 * MINUTE_MS,
        """After this, and then doubling, a purchase that is on the bus but not an order is looked
        up in the database. Longer than a worker's usual backlog in a flash sale.""",
    )
    relay_interval_ms: int = whole(
        200,
        10,
        MINUTE_MS,
        "Pause of the relay when no fact waits in the outbox; short, so facts are told at once.",
    )
    relay_batch: int = whole(
        1_000,
        1,
        10_000,
        """Facts that the relay tells in one go: one transaction, one produce. A thousand are less
        than half a MiB; more in one request cost a Kafka broker of a small heap twice the CPU.""",
    )
    worker_batch: int = whole(
        500,
        1,
        10_000,
        """Messages of one partition that a worker takes at once, and with RabbitMQ the prefetch of
        each queue. They become transactions of some 1,000 purchases; more messages gain little
        and repeat more after a crash.""",
    )
    worker_deliveries: int = whole(
        8,
        1,
        128,
        """Deliveries of each door that one worker handles side by side, each of another partition
        and each with a database connection of its own.""",
    )
    database_connections: int = whole(
        24,
        2,
        200,
        """Connections to PostgreSQL that one process may hold: one each for the deliveries of both
        doors that are handled side by side, and some for the relay, the sweeper and questions.""",
    )
    parked_interval_ms: int = whole(
        1_000, 100, MINUTE_MS, "Pause of the feeder that takes up parked messages that are due."
    )
    parked_lease_ms: int = whole(
        MINUTE_MS // 2,
        1_000,
        60 * MINUTE_MS,
        "How long a feeder holds messages that it took up, before another may: it may have died.",
    )
    payment_interval_ms: int = whole(
        500, 10, MINUTE_MS, "Pause between two looks for payments that are due, when none is."
    )
    payment_at_once: int = whole(
        16, 1, 1_000, "Payments that one worker has in hand side by side: calls of the gateway."
    )
    payment_deadline_ms: int = whole(
        10_000,
        100,
        5 * MINUTE_MS,
        """What one call of the payment gateway may take. Later its outcome is unknown, and it is
        looked up under the same key.""",
    )
    payment_lease_ms: int = whole(
        MINUTE_MS,
        300,
        60 * MINUTE_MS,
        """How long a worker holds a payment that it has in hand, before another may take it; more
        than two deadlines, because it may look up and charge.""",
    )
    payment_retry_initial_ms: int = whole(
        1_000,
        10,
        10 * MINUTE_MS,
        "When a payment of unknown outcome is looked up first, at most; each later wait doubles.",
    )
    payment_retry_max_ms: int = whole(
        5 * MINUTE_MS,
        10,
        60 * MINUTE_MS,
        "Longest wait before a payment of unknown outcome is looked up again.",
    )
    backoff_initial_ms: int = whole(
        100,
        1,
        MINUTE_MS,
        """First wait, at most, when something needed is away; each later one at most twice the
        one before, and always a random part of it, so that workers do not come back together.""",
    )
    backoff_max_ms: int = whole(
        5_000,
        1,
        10 * MINUTE_MS,
        "Longest wait when something needed is away; short, so that work goes on soon after.",
    )
    lookup_deadline_ms: int = whole(
        2_000,
        100,
        MINUTE_MS,
        """How long an answer to a GET may take, such as a purchase's state, before it is 503; no
        single question to PostgreSQL may take half of it. Buying has fixed deadlines.""",
    )
    probe_interval_ms: int = whole(
        1_000,
        100,
        MINUTE_MS,
        "Between two looks at what /readyz reports; whoever asks more often gets the last look.",
    )
    probe_timeout_ms: int = whole(
        2_000, 100, MINUTE_MS, "How long a dependency may take to answer such a look."
    )
    start_timeout_ms: int = whole(
        15_000,
        100,
        10 * MINUTE_MS,
        """How long a start waits for database and bus, and for what is missing in them, before it
        gives up and names it; whoever runs it may begin it again.""",
    )
    lame_duck_ms: int = whole(
        3_000,
        0,
        5_000,
        """How long an API that was told to end still serves while its /readyz says 503, so that
        whoever sends it buyers goes elsewhere first. The default is enough for a balancer that
        looks each second and believes the second look. Not kept with a gate in memory, where there
        is nowhere else to go.""",
    )
    drain_ms: int = whole(
        15_000,
        0,
        20_000,
        """How long a stop waits at most for what is in hand; shortened where the whole would take
        an API more than 10 s or a worker more than 25 s, before an orchestrator's usual 30 s are
        over.""",
    )
    faults: str | None = text(
        None, "Faults on purpose, for drills alone: after-reserve=kill@3;before-ack=error, …"
    )
    faults_allowed: Permission | None = choice(
        None, Permission, "`yes` lets FLASHSALE_FAULTS break this process."
    )


def secrets_of(settings: Settings) -> list[str]:
    """Collect what must never be seen in a log: the secrets, and the passwords inside URLs."""
    values = [getattr(settings, field.name) for field in attrs.fields(Settings)]
    found = [one.get_secret_value() for one in values if isinstance(one, Secret)]
    for named in (one for one in values if isinstance(one, Url)):
        password = named.password
        found += [password, unquote(password)] if password else []
    return found
