"""The servers that the other tests stand on: they answer, they remember, they leave nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import asyncpg
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError
from aiokafka.helpers import create_ssl_context

from tests.servers import (
    Kafka,
    Postgres,
    RabbitMQ,
    Redis,
    Registry,
    ServerNotOurs,
    launch,
    running_kafka,
    running_postgres,
    running_rabbitmq,
    running_redis,
    running_registry,
)
from tests.servers.keeper import processes_marked
from tests.servers.launch import Daemon, free_port
from tests.servers.shared import SharedServers

ROOT = Path(__file__).parents[2]
GONE_S_MAX = 10
# A node that is killed half a second after a queue was declared never finds that queue's leader
# again (RabbitMQ 3.10: its list of members reaches the disk later than the messages).
QUEUE_REMEMBERED_S = 2

CHILD = """
import sys, time
from tests.servers import running_rabbitmq, running_redis
with running_redis(ours=True) as redis, running_rabbitmq(ours=True) as rabbitmq:
    print(redis.runner._uuid, redis.runner.folder, flush=True)
    print(rabbitmq.runner._uuid, rabbitmq.runner.folder, flush=True)
    time.sleep(60)
"""


async def test_redis_answers_and_keeps_its_keys_over_a_kill() -> None:
    """Guarantee: what Redis answered for is there again on the same port."""
    with running_redis(ours=True) as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.set("unit", "one")
            policy = await client.config_get("maxmemory-policy")
        server.kill()
        server.start()
        async with redis.asyncio.Redis.from_url(server.url) as client:
            assert await client.get("unit") == b"one"
    assert policy == {"maxmemory-policy": "noeviction"}


async def test_frozen_redis_answers_nothing_until_it_is_thawed() -> None:
    """Guarantee: a test can have a server hang without ending it."""
    with running_redis(ours=True) as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.ping()
            server.freeze()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.ping(), 0.2)
            server.thaw()
        async with redis.asyncio.Redis.from_url(server.url) as client:
            assert await client.ping()


def test_redis_is_known_by_its_mark_while_it_runs() -> None:
    """Guarantee: the keeper finds it when a run was killed; it hides its environment by default."""
    with running_redis(ours=True) as server:
        assert isinstance(server.runner, Daemon)
        assert len(processes_marked({server.runner._uuid})) == 1


@pytest.mark.long
async def test_postgres_answers_and_keeps_a_commit_over_a_kill() -> None:
    """Guarantee: what was committed is there after a power cut."""
    with running_postgres(ours=True) as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE TABLE sold (unit int)")
        await connection.execute("INSERT INTO sold VALUES (1)")
        assert await connection.fetchval("SHOW fsync") == "on"
        server.kill()
        connection.terminate()
        server.start()
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("SELECT unit FROM sold") == 1
        await connection.close()


async def test_frozen_postgres_answers_nothing_until_it_is_thawed() -> None:
    """Guarantee: freezing reaches the backends too, which left the process group."""
    with running_postgres(ours=True) as server:
        connection = await asyncpg.connect(server.dsn)
        server.freeze()
        waiting = asyncio.create_task(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        server.thaw()
        assert await waiting == 1
        await connection.close()


async def test_every_test_can_have_a_database_of_its_own(postgres_server: Postgres) -> None:
    """Guarantee: two tests on the shared PostgreSQL do not see each other."""
    one, other = postgres_server.create_database(), postgres_server.create_database()
    connection = await asyncpg.connect(one.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE sold (unit int)")
    await connection.close()
    connection = await asyncpg.connect(other.replace("+asyncpg", ""))
    assert await connection.fetchval("SELECT to_regclass('sold')") is None
    await connection.close()
    for url in (one, other):
        postgres_server.drop_database(url)


@pytest.mark.long
async def test_rabbitmq_answers_and_keeps_a_confirmed_message_over_a_kill() -> None:
    """Guarantee: a message in a quorum queue survives the node's end."""
    with running_rabbitmq(ours=True) as server:
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(
                "bought", durable=True, arguments={"x-queue-type": "quorum"}
            )
            message = aio_pika.Message(b"one", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "bought")
        await asyncio.sleep(QUEUE_REMEMBERED_S)
        server.kill()
        server.start()
        assert await _first_in_queue(server, "bought") == b"one"


@pytest.mark.long
async def test_kafka_answers_and_keeps_a_confirmed_message_over_a_kill() -> None:
    """Guarantee: a message that the broker confirmed is there after its end."""
    with running_kafka(ours=True) as server:
        await _create_topic(server, "bought")
        producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap, acks="all")
        await producer.start()
        await producer.send_and_wait("bought", b"one")
        await producer.stop()
        server.kill()
        server.start()
        assert await _first_message(server, "bought") == b"one"


async def test_kafka_makes_no_topic_by_accident(kafka_server: Kafka) -> None:
    """Guarantee: a misspelt topic is an error and not a new topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
    await admin.start()
    name = f"misspelt-{uuid.uuid4().hex}"
    described = await admin.describe_topics([name])
    topics = await admin.list_topics()
    await admin.close()
    assert described[0]["error_code"]
    assert name not in topics


@pytest.mark.parametrize("mechanism", ["plain", "scram"])
async def test_kafka_takes_the_right_password_over_tls_and_no_other(
    sasl_kafka: Kafka, mechanism: str
) -> None:
    """Guarantee: PLAIN and SCRAM-SHA-512 work over TLS with the throwaway authority."""
    account = sasl_kafka.plain if mechanism == "plain" else sasl_kafka.scram
    assert account is not None
    topic = f"bought-{mechanism}"
    await _create_topic(sasl_kafka, topic)

    def producer(password: str) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=sasl_kafka.bootstrap,
            security_protocol="SASL_SSL",
            ssl_context=create_ssl_context(cafile=str(sasl_kafka.ca)),
            sasl_mechanism=account.mechanism,
            sasl_plain_username=account.username,
            sasl_plain_password=password,
        )

    good = producer(account.password)
    await good.start()
    await good.send_and_wait(topic, b"one")
    await good.stop()
    bad = producer("wrong")
    with pytest.raises(KafkaConnectionError):
        await bad.start()
    await bad.stop()


@pytest.fixture(scope="module")
def sasl_kafka() -> Iterator[Kafka]:
    """A Kafka of our own with SASL_SSL."""
    with running_kafka(sasl=True) as server:
        yield server


@pytest.mark.long
def test_registry_answers_and_keeps_its_ids_over_a_restart() -> None:
    """Guarantee: a message written before the registry's restart can be read after it."""
    with running_registry(ours=True) as server:
        number = _register(server)
        server.stop()
        server.start()
        with urllib.request.urlopen(f"{server.url}/schemas/ids/{number}") as answer:
            assert json.load(answer)["schema"] == '"string"'


def test_registry_behind_basic_auth_takes_the_right_password_and_no_other() -> None:
    """Guarantee: the guarded registry wants the credentials that it names."""
    with running_registry(auth=True) as server:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/subjects")
        refused.value.close()
        assert refused.value.code == 401
        assert _register(server) > 0


def test_a_shared_server_cannot_be_stopped_by_a_test(redis_server: Redis) -> None:
    """Guarantee: no test takes a server away from the others."""
    with pytest.raises(ServerNotOurs, match="running_redis"):
        redis_server.stop()


def test_shared_servers_have_an_address(
    rabbitmq_server: RabbitMQ, registry_server: Registry
) -> None:
    """Guarantee: the fixtures give URLs in the form that the settings take."""
    assert rabbitmq_server.url == f"amqp://guest:guest@127.0.0.1:{rabbitmq_server.port}/"
    assert registry_server.url.endswith("/apis/ccompat/v7")


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        signal.SIGKILL,
    ],
)
def test_no_process_is_left_when_the_run_ends(number: signal.Signals) -> None:
    """Guarantee: every process (RabbitMQ's epmd too) and folder is gone, however we end."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=ROOT, stdout=subprocess.PIPE, text=True, stderr=-3
    )
    with child:
        assert child.stdout is not None
        told = [child.stdout.readline().split() for _ in range(2)]
        marks = {mark for mark, _ in told}
        assert len(processes_marked(marks)) > 2
        child.send_signal(number)
    end = time.monotonic() + GONE_S_MAX
    while _left(told) and time.monotonic() < end:
        time.sleep(0.05)
    assert _left(told) == []


def _left(told: list[list[str]]) -> list[int | str]:
    """Return the processes and folders that are still there."""
    folders = [folder for _, folder in told if Path(folder).exists()]
    return [*processes_marked({mark for mark, _ in told}), *folders]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedServers]:
    """A run of the tests inside this one, with servers of its own."""
    monkeypatch.delenv("FLASHSALE_TEST_REDIS_URL", raising=False)
    shared = SharedServers(tmp_path)
    shared.begin()
    yield shared
    shared.end()


ASKS = """
import sys, time
from pathlib import Path
from tests.servers.shared import SharedServers
run = SharedServers(Path(sys.argv[1]))
if "begins" in sys.argv:
    run.begin()
print(run.get("redis").port, flush=True)
if "begins" in sys.argv:
    time.sleep(60)
"""


def test_a_shared_server_outlives_who_asked_first_and_ends_with_the_run(
    run: SharedServers, tmp_path: Path
) -> None:
    """Guarantee: a process of the run that has no work left takes no server with it."""
    asking = [sys.executable, "-c", ASKS, str(tmp_path)]
    asked = subprocess.run(asking, check=True, cwd=ROOT, capture_output=True, text=True)
    assert run.get("redis").port == int(asked.stdout)
    assert _answers(int(asked.stdout))
    assert run.end() == []
    assert not _answers(int(asked.stdout))


def test_a_shared_server_that_did_not_last_is_told_with_its_last_words(run: SharedServers) -> None:
    """Guarantee: whoever reads why a hundred tests were refused finds the one reason."""
    port = run.get("redis").port
    with launch.connection(port) as peer:
        peer.sendall(b"SHUTDOWN NOSAVE\r\n")
        assert launch.receive(peer, 1) == b""
    [told] = run.end()
    assert told.startswith(f"redis at redis://127.0.0.1:{port}/0 did not answer any more")
    assert "User requested shutdown" in told


def test_shared_servers_end_with_a_run_that_was_killed(tmp_path: Path) -> None:
    """Guarantee: kill -9 of the run leaves no server behind."""
    asking = [sys.executable, "-c", ASKS, str(tmp_path), "begins"]
    with subprocess.Popen(asking, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        port = int(killed.stdout.readline())
        assert _answers(port)
        killed.kill()
    launch.wait_until(lambda: not _answers(port), "the end of Redis", GONE_S_MAX)


def _answers(port: int) -> bool:
    try:
        return launch.answers(port, b"PING\r\n", b"+PONG")
    except OSError:
        return False


def test_a_run_that_ends_ends_nobody_elses_servers() -> None:
    """Not even those in whose mark its process id occurs, as a short one does by chance."""
    with running_redis(ours=True) as server:
        assert isinstance(server.runner, Daemon)
        ours = server.runner._uuid.partition(":")[0]
        ending = f"import os; from tests.servers import launch; os.getpid = lambda: {ours}"
        subprocess.run([sys.executable, "-c", ending], check=True, cwd=ROOT)
        time.sleep(0.1)
        assert server.runner.running()


async def _create_topic(server: Kafka, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.plaintext_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    await admin.close()


async def _first_in_queue(server: RabbitMQ, name: str) -> bytes:
    """Ask again: RabbitMQ 3.10 loses a get that comes before the queue has its leader back."""
    for _ in range(10):
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(name)
            try:
                message = await queue.get(timeout=2, no_ack=True)
            except TimeoutError:
                continue
            assert message is not None
            return message.body
    raise AssertionError(name)


async def _first_message(server: Kafka, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=server.bootstrap,
        group_id="reader",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        message = await asyncio.wait_for(consumer.getone(), 30)
    finally:
        await consumer.stop()
    value: bytes = message.value
    return value


def _register(server: Registry) -> int:
    request = urllib.request.Request(
        f"{server.url}/subjects/s-{uuid.uuid4().hex}/versions",
        json.dumps({"schema": '"string"'}).encode(),
        {"Content-Type": "application/json"},
    )
    if server.auth:
        request.add_header("Authorization", "Basic " + b64encode(server.auth.encode()).decode())
    with urllib.request.urlopen(request) as answer:
        number: int = json.load(answer)["id"]
        return number


def test_a_port_that_was_given_out_is_given_to_no_other_run() -> None:
    """Also before its server listens, and while that server is down."""
    port = free_port()
    asked = f"from tests.servers import launch; print(launch._claim({port}), launch.free_port())"
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=ROOT
    )
    refused, other = told.stdout.split()
    assert refused == "False"
    assert int(other) != port
