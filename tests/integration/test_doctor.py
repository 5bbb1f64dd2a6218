"""`flashsale doctor` on real servers: each thing that is wrong names its own fix, exit code 1."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import attrs
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis as RedisClient

from flashsale.cli import EXIT_FAILED
from flashsale.commands.app import run_command
from tests.integration.engine import own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis, Registry
from tests.servers.kafka import running_kafka
from tests.servers.launch import free_port
from tests.servers.postgres import running_postgres
from tests.servers.redis import running_redis
from tests.servers.registry import running_registry

EVERYTHING_KAFKA = {
    *("settings", "redis reachable", "redis version", "redis eviction", "redis functions"),
    *("redis persistence", "redis replication", "kafka reachable", "kafka topics"),
    *("database reachable", "database tables", "database rights"),
    *("database writable", "database durability", "redis rights"),
    *("registry reachable", "registry schemas"),
}


@attrs.frozen
class Examined:
    """What the doctor said, and its exit code."""

    code: int
    findings: list[dict[str, str]]

    @property
    def wrong(self) -> dict[str, dict[str, str]]:
        """What is wrong, by name."""
        return {one["name"]: one for one in self.findings if one["verdict"] == "wrong"}

    def only(self, name: str) -> dict[str, str]:
        """Return the one thing that is wrong, with exit code 1."""
        assert list(self.wrong) == [name], self.findings
        assert self.code == EXIT_FAILED
        return self.wrong[name]


Doctor = Callable[..., Examined]


@pytest.fixture
def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Doctor:
    """Ask the doctor about settings; what is not set needs no server and is fine."""
    for variable in list(os.environ):
        if variable.startswith("FLASHSALE_") and not variable.startswith("FLASHSALE_TEST_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)

    def ask(**settings: str) -> Examined:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(f"FLASHSALE_{name.upper()}", value)
            code = run_command(["doctor", "--json"])
        out, err = capsys.readouterr()
        assert err == ""
        return Examined(code, json.loads(out))

    return ask


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Type the fix that the doctor named."""

    def type_in(line: str, **settings: str) -> None:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(f"FLASHSALE_{name.upper()}", value)
            assert run_command(line.removeprefix("flashsale ").split()) == 0
        capsys.readouterr()

    return type_in


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """Have a Redis that these tests may set as they like."""
    with running_redis(ours=True) as redis:
        yield redis


def names() -> dict[str, str]:
    """Name topics and queues as no other test does."""
    return {key.removeprefix("FLASHSALE_").lower(): value for key, value in own_names().items()}


def tell(redis: Redis, *words: str) -> Any:
    """Run one command on a Redis."""

    async def run() -> Any:
        async with RedisClient.from_url(redis.url) as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    return asyncio.run(run())


def with_user(url: str, user: str, password: str) -> str:
    """Put another login into a URL."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}").geturl()


# ── healthy ─────────────────────────────────────────────────────────────────────────────────────


def test_a_healthy_engine_on_kafka_passes_in_every_point(
    doctor: Doctor,
    command: Any,
    redis_server: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
    registry_server: Registry,
) -> None:
    """All is looked at, all is well, exit code 0."""
    settings = names() | {
        "gate_url": redis_server.url,
        "bus_url": kafka_server.url,
        "database_url": postgres_server.create_database(),
        "schema_registry_url": registry_server.url,
    }
    for fix in ("db upgrade", "topics ensure", "gate install", "schema register"):
        command(fix, **settings)
    examined = doctor(**settings)
    assert {one["name"] for one in examined.findings} == EVERYTHING_KAFKA
    assert {one["verdict"] for one in examined.findings} == {"ok"}
    assert examined.code == 0


def test_a_healthy_engine_on_rabbitmq_passes(
    doctor: Doctor, command: Any, rabbitmq_server: RabbitMQ
) -> None:
    """Equals behind the port are equals before the doctor."""
    settings = names() | {"gate_url": "redis://127.0.0.1:1", "bus_url": rabbitmq_server.url}
    command("topics ensure", **settings)
    examined = doctor(**settings)
    verdicts = {one["name"]: one["verdict"] for one in examined.findings}
    assert verdicts["rabbitmq reachable"] == verdicts["rabbitmq queues"] == "ok"


def test_the_embedded_default_needs_no_doctor(doctor: Doctor) -> None:
    """Nothing is configured, nothing is wrong, and nothing is made by looking."""
    examined = doctor()
    assert examined.code == 0
    assert not examined.wrong
    assert list(Path.cwd().iterdir()) == []


# ── the gate ────────────────────────────────────────────────────────────────────────────────────


def on(redis: Redis) -> dict[str, str]:
    """Set a gate on a Redis, beside a bus that nobody answers for."""
    return {"gate_url": redis.url, "bus_url": f"amqp://127.0.0.1:{free_port()}"}


def redis_findings(examined: Examined) -> dict[str, dict[str, str]]:
    """Pick what was found of Redis."""
    return {one["name"]: one for one in examined.findings if one["name"].startswith("redis")}


def test_a_missing_function_library_names_its_install(
    doctor: Doctor, command: Any, own_redis: Redis
) -> None:
    """The fix is a command, and typing it is enough."""
    tell(own_redis, "FUNCTION", "FLUSH")
    found = redis_findings(doctor(**on(own_redis)))["redis functions"]
    assert found["verdict"] == "wrong"
    assert found["fix"] == "flashsale gate install"
    command(found["fix"], **on(own_redis))
    assert redis_findings(doctor(**on(own_redis)))["redis functions"]["verdict"] == "ok"


def test_a_redis_that_evicts_names_the_policy(doctor: Doctor, own_redis: Redis) -> None:
    """An evicted purchase is a unit sold twice."""
    tell(own_redis, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        examined = doctor(**on(own_redis))
    finally:
        tell(own_redis, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    found = redis_findings(examined)["redis eviction"]
    assert found["verdict"] == "wrong"
    assert "allkeys-lru" in found["said"]
    assert "CONFIG SET maxmemory-policy noeviction" in found["fix"]
    assert examined.code == EXIT_FAILED


def test_a_redis_without_persistence_is_a_warning(doctor: Doctor, own_redis: Redis) -> None:
    """The books are in the database too, so this costs a rebuild and no purchase."""
    tell(own_redis, "CONFIG", "SET", "appendonly", "no")
    try:
        found = redis_findings(doctor(**on(own_redis)))["redis persistence"]
    finally:
        tell(own_redis, "CONFIG", "SET", "appendonly", "yes")
    assert found["verdict"] == "warning"
    assert "CONFIG SET appendonly yes" in found["fix"]


def test_a_wrong_redis_password_names_its_setting(doctor: Doctor, own_redis: Redis) -> None:
    """And the password shows nowhere."""
    url = with_user(own_redis.url, "nobody", "swordfish")
    examined = doctor(**on(own_redis) | {"gate_url": url})
    [found] = redis_findings(examined).values()
    assert (found["name"], found["verdict"]) == ("redis login", "wrong")
    assert "FLASHSALE_GATE_URL" in found["fix"]
    assert "swordfish" not in str(examined)


def test_a_redis_that_is_away_names_its_start(doctor: Doctor) -> None:
    """With the command that shows whether it is there."""
    settings = {"gate_url": f"redis://127.0.0.1:{free_port()}", "bus_url": "amqp://127.0.0.1:1"}
    [found] = redis_findings(doctor(**settings)).values()
    assert found["name"] == "redis reachable"
    assert "start Redis" in found["fix"]


def test_replicas_need_a_fence_and_a_replica_is_no_gate(doctor: Doctor, own_redis: Redis) -> None:
    """A primary that was cut off would go on selling."""
    with running_redis(ours=True) as replica:
        tell(replica, "REPLICAOF", str(own_redis.host), str(own_redis.port))
        asyncio.run(_until_linked(replica))
        unfenced = redis_findings(doctor(**on(own_redis)))["redis replication"]
        fence = unfenced["fix"].partition("CONFIG SET ")[2].split()[:4]
        tell(own_redis, "CONFIG", "SET", *fence)
        fenced = redis_findings(doctor(**on(own_redis)))["redis replication"]
        tell(own_redis, "CONFIG", "SET", "min-replicas-to-write", "0")
        of_replica = redis_findings(doctor(**on(replica)))["redis replication"]
    assert unfenced["verdict"] == "wrong"
    assert "min-replicas-to-write 1" in unfenced["fix"]
    assert fenced["verdict"] == "ok"
    assert of_replica["verdict"] == "wrong"
    assert "primary" in of_replica["fix"]


async def _until_linked(replica: Redis) -> None:
    async with RedisClient.from_url(replica.url) as client, asyncio.timeout(20):
        while (await client.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.05)


# ── the bus ─────────────────────────────────────────────────────────────────────────────────────


def kafka_settings(kafka: Kafka) -> dict[str, str]:
    """Set a bus on Kafka, beside a gate that nobody answers for."""
    return names() | {"gate_url": f"redis://127.0.0.1:{free_port()}", "bus_url": kafka.url}


def bus_findings(examined: Examined) -> list[dict[str, str]]:
    """Pick what was found wrong of the bus."""
    assert examined.code == EXIT_FAILED
    return [one for name, one in examined.wrong.items() if name.startswith(("kafka", "rabbitmq"))]


def test_missing_topics_name_the_command_that_makes_them(
    doctor: Doctor, command: Any, kafka_server: Kafka
) -> None:
    """The fix is a command, and typing it is enough."""
    settings = kafka_settings(kafka_server)
    [found] = bus_findings(doctor(**settings))
    assert settings["dead_letter_topic"] in found["said"]
    assert found["fix"] == "flashsale topics ensure"
    command(found["fix"], **settings)
    assert bus_findings(doctor(**settings)) == []


def test_a_topic_that_forgets_too_soon_shows_both_shapes(
    doctor: Doctor, command: Any, kafka_server: Kafka
) -> None:
    """Accepted purchases must outlive a long weekend."""
    settings = kafka_settings(kafka_server)
    hasty = NewTopic(settings["accepted_topic"], 4, 1, topic_configs={"retention.ms": "3600000"})

    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([hasty])
        finally:
            await admin.close()

    asyncio.run(make())
    for_others = settings | {"accepted_topic": names()["accepted_topic"]}
    command("topics ensure", **for_others)
    [found] = bus_findings(doctor(**settings))
    assert "retention" in found["said"]
    assert "14 d" in found["said"]
    assert "--add-config retention.ms=1209600000" in found["fix"]


def test_brokers_that_are_away_name_their_setting(doctor: Doctor) -> None:
    """Within seconds, and with the address that was tried."""
    port = free_port()
    settings = {"gate_url": "redis://127.0.0.1:1", "bus_url": f"kafka://127.0.0.1:{port}"}
    [found] = bus_findings(doctor(**settings))
    assert found["name"] == "kafka reachable"
    assert str(port) in found["said"]
    assert "FLASHSALE_BUS_URL" in found["fix"]


def test_a_wrong_kafka_password_names_its_setting(doctor: Doctor) -> None:
    """SASL_SSL with SCRAM, as a managed cloud has it."""
    with running_kafka(sasl=True) as kafka:
        assert kafka.scram is not None
        settings = kafka_settings(kafka) | {
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": kafka.scram.mechanism,
            "kafka_username": kafka.scram.username,
            "kafka_password": "swordfish",
            "kafka_ca": str(kafka.ca),
        }
        examined = doctor(**settings)
        [login] = bus_findings(examined)
        del settings["kafka_ca"]
        [trust] = bus_findings(doctor(**settings))
    assert login["name"] == "kafka login"
    assert "FLASHSALE_KAFKA_PASSWORD" in login["fix"]
    assert "swordfish" not in str(examined)
    assert trust["name"] == "kafka TLS"
    assert "FLASHSALE_KAFKA_CA" in trust["fix"]


def rabbit_settings(rabbitmq: RabbitMQ) -> dict[str, str]:
    """Set a bus on RabbitMQ, beside a gate that nobody answers for."""
    return names() | {"gate_url": f"redis://127.0.0.1:{free_port()}", "bus_url": rabbitmq.url}


def test_missing_queues_name_the_command_that_makes_them(
    doctor: Doctor, command: Any, rabbitmq_server: RabbitMQ
) -> None:
    """The fix is a command, and typing it is enough."""
    settings = rabbit_settings(rabbitmq_server)
    [found] = bus_findings(doctor(**settings))
    assert settings["requests_topic"] in found["said"]
    assert found["fix"] == "flashsale topics ensure"
    command(found["fix"], **settings)
    assert bus_findings(doctor(**settings)) == []


def test_a_queue_of_another_shape_shows_both(
    doctor: Doctor, command: Any, rabbitmq_server: RabbitMQ
) -> None:
    """A classic queue does not keep what it confirmed."""
    settings = rabbit_settings(rabbitmq_server)
    command("topics ensure", **settings)

    async def swap() -> None:
        connection = await aio_pika.connect(rabbitmq_server.url)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(settings["requests_topic"])
            await channel.declare_queue(settings["requests_topic"], durable=True)

    asyncio.run(swap())
    [found] = bus_findings(doctor(**settings))
    assert "x-queue-type=quorum" in found["said"]
    assert "classic" in found["said"]
    assert "rabbitmqctl delete_queue" in found["fix"]


def test_a_wrong_rabbitmq_password_and_virtual_host_name_their_setting(
    doctor: Doctor, rabbitmq_server: RabbitMQ
) -> None:
    """Login and virtual host are told apart, and the password shows nowhere."""
    settings = rabbit_settings(rabbitmq_server)
    url = with_user(rabbitmq_server.url, "guest", "swordfish")
    examined = doctor(**settings | {"bus_url": url})
    [login] = bus_findings(examined)
    [host] = bus_findings(doctor(**settings | {"bus_url": f"{rabbitmq_server.url}nowhere"}))
    assert login["name"] == "rabbitmq login"
    assert "FLASHSALE_BUS_URL" in login["fix"]
    assert "swordfish" not in str(examined)
    assert host["name"] == "rabbitmq virtual host"
    assert "rabbitmqctl add_vhost" in host["fix"]


def test_a_rabbitmq_that_is_away_names_its_start(doctor: Doctor) -> None:
    """An unreachable broker is a finding, not a traceback."""
    settings = {"gate_url": "redis://127.0.0.1:1", "bus_url": f"amqp://127.0.0.1:{free_port()}"}
    [found] = bus_findings(doctor(**settings))
    assert found["name"] == "rabbitmq reachable"
    assert "start RabbitMQ" in found["fix"]


# ── the database ────────────────────────────────────────────────────────────────────────────────


def test_missing_and_old_tables_name_the_upgrade(
    doctor: Doctor, command: Any, postgres_server: Postgres
) -> None:
    """The fix is a command, and typing it is enough."""
    settings = {"database_url": postgres_server.create_database()}
    found = doctor(**settings).only("database tables")
    assert "there are none" in found["said"]
    assert found["fix"] == "flashsale db upgrade"
    command(found["fix"], **settings)
    assert doctor(**settings).code == 0
    sql(settings["database_url"], "UPDATE flashsale_revision SET version_num = '0000'")
    old = doctor(**settings).only("database tables")
    assert "at revision 0000" in old["said"]
    assert old["fix"] == "flashsale db upgrade"


def test_a_database_that_may_lose_commits_is_a_warning(
    doctor: Doctor, command: Any, postgres_server: Postgres
) -> None:
    """An acknowledged message's order must be on disk."""
    url = postgres_server.create_database()
    command("db upgrade", database_url=url)
    name = urlsplit(url).path.lstrip("/")
    sql(url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    examined = doctor(database_url=url)
    [warning] = [one for one in examined.findings if one["verdict"] == "warning"]
    assert warning["name"] == "database durability"
    assert "synchronous_commit" in warning["fix"]
    assert examined.code == 0


def test_a_database_that_is_not_there_names_its_making(
    doctor: Doctor, postgres_server: Postgres
) -> None:
    """A server without our database, and no server at all, are two things."""
    nowhere = urlsplit(postgres_server.url)._replace(path="/never_made").geturl()
    assert "createdb never_made" in doctor(database_url=nowhere).only("database reachable")["fix"]
    away = with_port(postgres_server.url, free_port())
    assert "start PostgreSQL" in doctor(database_url=away).only("database reachable")["fix"]


def test_a_wrong_database_password_names_its_setting(doctor: Doctor) -> None:
    """On a server that asks for one; it shows nowhere."""
    with running_postgres(ours=True) as postgres:
        demand_password(postgres)
        examined = doctor(database_url=with_user(postgres.url, "postgres", "swordfish"))
    found = examined.only("database login")
    assert "FLASHSALE_DATABASE_URL" in found["fix"]
    assert "swordfish" not in str(examined)


def sql(url: str, statement: str) -> None:
    """Run one statement."""

    async def run() -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def demand_password(postgres: Postgres) -> None:
    """Have the server ask everybody on TCP for a password."""
    sql(postgres.url, "ALTER USER postgres PASSWORD 'right'")
    sql(
        postgres.url,
        "DO $$ BEGIN EXECUTE format('COPY (SELECT %L) TO %L',"
        " 'host all all 127.0.0.1/32 scram-sha-256', current_setting('hba_file'));"
        " PERFORM pg_reload_conf(); END $$",
    )


def with_port(url: str, port: int) -> str:
    """Put another port into a URL."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=f"{user}{parts.hostname}:{port}").geturl()


# ── the registry ────────────────────────────────────────────────────────────────────────────────


def test_missing_schemas_name_the_command_that_registers_them(doctor: Doctor, command: Any) -> None:
    """On a registry behind basic auth: away, locked out, empty, and then well."""
    away = doctor(schema_registry_url=f"http://127.0.0.1:{free_port()}").only("registry reachable")
    assert "FLASHSALE_SCHEMA_REGISTRY_URL" in away["fix"]
    with ExitStack() as stack:
        registry = stack.enter_context(running_registry(ours=True, auth=True))
        settings = {
            "schema_registry_url": registry.url,
            "schema_registry_auth": registry.auth or "",
        }
        refused = doctor(**settings | {"schema_registry_auth": "registry-user:swordfish"})
        assert "FLASHSALE_SCHEMA_REGISTRY_AUTH" in refused.only("registry login")["fix"]
        assert "swordfish" not in str(refused)
        found = doctor(**settings).only("registry schemas")
        assert found["fix"] == "flashsale schema register"
        command(found["fix"], **settings)
        assert doctor(**settings).code == 0


# ── settings ────────────────────────────────────────────────────────────────────────────────────


def test_every_wrong_setting_is_a_finding_of_its_own(doctor: Doctor) -> None:
    """Nothing is asked while it is unclear whom to ask."""
    examined = doctor(http_port="0", gate_url="memcached://h")
    assert examined.code == EXIT_FAILED
    assert [one["name"] for one in examined.findings] == ["settings", "settings"]
    assert "FLASHSALE_GATE_URL" in examined.findings[1]["fix"] + examined.findings[0]["fix"]


def test_the_doctor_writes_one_line_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A person reads down the list, and each line ends in what to type."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLASHSALE_GATE_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("FLASHSALE_BUS_URL", "amqp://127.0.0.1:1")
    assert run_command(["doctor"]) == EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "wrong", "wrong", "ok", "ok"]
    assert all(" → " in line for line in lines if line.startswith("wrong"))
