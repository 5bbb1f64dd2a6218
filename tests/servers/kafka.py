"""Apache Kafka, one node that is broker and controller; with SASL_SSL if asked.

Topics are never made by accident (`auto.create.topics.enable=false`).
"""

from __future__ import annotations

import base64
import functools
import secrets
import struct
import subprocess
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from tests.servers import launch, maven
from tests.servers.authority import Authority
from tests.servers.launch import HOST

IMAGE = f"apache/kafka:{maven.KAFKA_VERSION}"
HEAP_MB = 512
# ApiVersions, version 0: the one question that every broker answers before anything else.
CORRELATION = struct.pack(">i", 7)
QUESTION = struct.pack(">hh", 18, 0) + CORRELATION + struct.pack(">h", -1)

# One node cannot replicate; small internal topics start quicker.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # Drills do not wait out a dead member's session as shipped.
    "group.min.session.timeout.ms": "1000",
    # A killed broker may come back only when its session is over: 9 s as shipped.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
}
LOGGING = """\
status=ERROR
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
"""


@attrs.frozen(kw_only=True)
class Account:
    """A user whom the SASL_SSL listener knows under one mechanism."""

    mechanism: str
    username: str
    password: str = attrs.field(factory=lambda: secrets.token_urlsafe(12), repr=False)


@attrs.define(kw_only=True)
class Kafka(launch.Server):
    """A Kafka broker; `url` is `kafka://127.0.0.1:PORT`.

    With SASL, `url` is the SASL_SSL listener, `ca` the file of its authority, and `plain` and
    `scram` are the accounts; `plaintext_url` is a listener without rights for the test's own use.
    """

    plaintext_url: str
    ca: Path | None = None
    plain: Account | None = None
    scram: Account | None = None

    @property
    def bootstrap(self) -> str:
        """The address in the form that Kafka's clients take."""
        return f"{self.host}:{self.port}"

    @property
    def plaintext_bootstrap(self) -> str:
        """The address of the listener without rights, in the form that Kafka's clients take."""
        return self.plaintext_url.removeprefix("kafka://")


def running_kafka(
    *,
    ours: bool = False,
    sasl: bool = False,
    heap_mb: int = HEAP_MB,
    users: Mapping[str, str] | None = None,
    advertised_port: int | None = None,
) -> AbstractContextManager[Kafka]:
    """Yield a running Kafka; `ours` (and `sasl`) start one that the test may stop and kill.

    `users` (name to password, by PLAIN) may do nothing before an ACL allows it.
    `advertised_port` is where a local one sends its clients: to a wire that stands before it.
    """
    if sasl:
        return launch.running(
            "kafka",
            ours=True,
            attach=attach,
            # The image would need the authority's files inside; the local one takes them as are.
            container=functools.partial(_local, heap_mb, sasl=True, users=users),
            local=functools.partial(_local, heap_mb, sasl=True, users=users),
        )
    return launch.running(
        "kafka",
        ours=ours,
        attach=attach,
        container=_container,
        local=functools.partial(_local, heap_mb, sasl=False, advertised_port=advertised_port),
    )


def attach(url: str, origin: str) -> Kafka:
    """Describe a Kafka that somebody else runs."""
    return Kafka(kind="kafka", url=url, plaintext_url=url, origin=origin)


def _container() -> Kafka:
    port = launch.free_port()
    described = launch.container(IMAGE, 9092, port)
    settings = SETTINGS | {
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "controller.quorum.voters": "1@localhost:9093",
    }
    for name, value in settings.items():
        described.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    runner = launch.Container(described, lambda: _ready(port))
    url = f"kafka://{HOST}:{port}"
    return Kafka(
        kind="kafka", url=url, plaintext_url=url, origin=f"container {IMAGE}", runner=runner
    )


def _local(
    heap_mb: int,
    *,
    sasl: bool,
    users: Mapping[str, str] | None = None,
    advertised_port: int | None = None,
) -> Kafka:
    java, libraries = maven.java("kafka"), maven.kafka_libraries()
    port, controller = launch.free_port(), launch.free_port()
    folder = launch.private_folder("kafka")
    plaintext_url = url = f"kafka://{HOST}:{port}"
    listeners = {"PLAINTEXT": port, "CONTROLLER": controller}
    settings = SETTINGS | {
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller}",
        "log.dirs": str(folder / "data"),
    }
    ca, plain, scram = None, None, None
    if sasl:
        plain = Account(mechanism="PLAIN", username="plain-user")
        scram = Account(mechanism="SCRAM-SHA-512", username="scram-user")
        listeners["SASL_SSL"] = launch.free_port()
        url = f"kafka://{HOST}:{listeners['SASL_SSL']}"
        authority = Authority(folder)
        ca = authority.certificate
        settings |= _sasl_settings(plain, authority.server_pem(), users or {})
    settings["listeners"] = ",".join(f"{name}://{HOST}:{at}" for name, at in listeners.items())
    advertised = f"PLAINTEXT://{HOST}:{advertised_port or port}"
    settings["advertised.listeners"] = settings["listeners"].replace(
        f"PLAINTEXT://{HOST}:{port}", advertised
    )
    properties = folder / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    logging = folder / "log4j2.properties"
    logging.write_text(LOGGING)
    command = [
        java,
        f"-Xmx{heap_mb}m",
        f"-Dlog4j2.configurationFile={logging}",
        *(["-XX:TieredStopAtLevel=1"] if heap_mb <= HEAP_MB else []),
        "-cp",
        f"{libraries}/*",
    ]
    _format(command, properties, scram)
    runner = launch.Daemon(
        [*command, "kafka.Kafka", str(properties)], ready=lambda: _ready(port), folder=folder
    )
    return Kafka(
        kind="kafka",
        url=url,
        plaintext_url=plaintext_url,
        origin=str(libraries),
        runner=runner,
        ca=ca,
        plain=plain,
        scram=scram,
    )


def _sasl_settings(plain: Account, server_pem: Path, users: Mapping[str, str]) -> dict[str, str]:
    listener = "listener.name.sasl_ssl"
    login = "org.apache.kafka.common.security"
    known = {plain.username: plain.password, **users}
    accounts = " ".join(f'user_{name}="{password}"' for name, password in known.items())
    guarded = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Whoever needs no login is the broker itself, or a test.
        "super.users": "User:ANONYMOUS",
    }
    return {
        **(guarded if users else {}),
        "listener.security.protocol.map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL"
        ),
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.location": str(server_pem),
        f"{listener}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        f"{listener}.plain.sasl.jaas.config": (
            f"{login}.plain.PlainLoginModule required {accounts};"
        ),
        f"{listener}.scram-sha-512.sasl.jaas.config": (f"{login}.scram.ScramLoginModule required;"),
    }


def _format(command: list[str], properties: Path, scram: Account | None) -> None:
    identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # A leading dash would be read as an option.
    identity = "f" + identity[1:]
    tool = [*command, "kafka.tools.StorageTool", "format", "--standalone"]
    tool += ["-t", identity, "-c", str(properties)]
    if scram:
        secret = f"[name={scram.username},password={scram.password}]"
        tool += ["--add-scram", f"{scram.mechanism}={secret}"]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-launch.LOG_TAIL_CHARACTERS :]
        message = f"Kafka's storage could not be formatted: {said}"
        raise RuntimeError(message)


def _ready(port: int) -> bool:
    question = struct.pack(">i", len(QUESTION)) + QUESTION
    with launch.connection(port) as broker:
        broker.sendall(question)
        answer = launch.receive(broker, 10)
    # Size, correlation id, error code 0.
    return answer[4:8] == CORRELATION and answer[8:10] == b"\0\0"
