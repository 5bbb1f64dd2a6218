"""No secret is seen, whatever breaks: in no log, metric, error or command's output.

Every secret that an engine is given is recognisable: the logins of gate, bus, database and
registry, the admin's token, the payment gateway's, and the payment tokens of buyers.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import pytest

from tests.integration.engine import Engine, Program, ask, engine
from tests.integration.granted import KAFKA_USERS as USERS
from tests.integration.granted import as_user, grant_kafka, kafka_login
from tests.integration.paying import as_installed
from tests.servers import (
    Kafka,
    RabbitMQ,
    Registry,
    Server,
    launch,
    running_kafka,
    running_postgres,
    running_rabbitmq,
    running_redis,
    running_registry,
)
from tests.servers.provider import running_provider

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]
WAIT_S = 60.0
MARK = "Xq9"
"""In every secret, with what a URL must escape; nothing of ours is called so."""


def a_secret(name: str) -> str:
    """Make a secret that is known again, raw or escaped or in base64."""
    return f"{MARK}/{name}@{secrets.token_hex(8)}"


@attrs.define
class Leaky:
    """An engine full of secrets, on servers that may be broken, and all that it ever said."""

    engine: Engine
    servers: dict[str, Server]
    secrets: dict[str, str]
    said: dict[str, str] = attrs.field(factory=dict)

    @property
    def door(self) -> str:
        """Name the API."""
        return self.engine.doors[0]

    def listen(self, when: str) -> None:
        """Collect what can be asked for: metrics, readiness, problems, sales."""
        for program in self.engine.programs:
            for path in ("/metrics", "/readyz"):
                self.hear(f"{when} {program.name} {path}", "GET", program.url + path)
        for number in range(3):
            body = {
                "userId": number,
                "productId": 1,
                "purchaseId": f"{when}-{number}".replace(" ", "-"),
                "paymentToken": self.secrets["buyer"],
            }
            self.hear(f"{when} buy {number}", "POST", f"{self.door}/purchase/buy", body)
        self.hear(f"{when} find", "GET", f"{self.door}/purchase/{when.replace(' ', '-')}-0")
        self.hear(f"{when} sales", "GET", f"{self.door}/sales", token=self.secrets["admin"])
        self.hear(f"{when} letters", "GET", f"{self.door}/dead-letters", token="Xq9/wrong@token")

    def hear(
        self, name: str, method: str, url: str, body: object = None, token: str | None = None
    ) -> str:
        """Ask, and keep every byte of the answer, headers too."""
        request = urllib.request.Request(url, method=method)
        if token is not None:
            request.add_header("authorization", f"Bearer {token}")
        if body is not None:
            answer = ask(method, url, body)
            self.said[name] = f"{answer.headers} {answer.body}"
            return self.said[name]
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                self.said[name] = f"{reply.headers} {reply.read().decode()}"
        except urllib.error.HTTPError as refused:
            self.said[name] = f"{refused.headers} {refused.read().decode()}"
        return self.said[name]

    def run(self, line: str, **settings: str) -> None:
        """Run a command and keep what it prints."""
        done = self.engine.command(*shlex.split(line), **settings)
        self.said[f"flashsale {line} {sorted(settings)}"] = done.stdout + done.stderr

    def everything(self) -> dict[str, str]:
        """Add the logs."""
        logs = {program.name: program.log.read_text() for program in self.engine.programs}
        return {**self.said, **logs}


@pytest.fixture(params=["kafka", "rabbitmq"])
def leaky(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Leaky]:
    """Have everything, each with a login of its own."""
    starting: Any = (
        running_kafka(sasl=True, users=USERS)
        if request.param == "kafka"
        else running_rabbitmq(ours=True)
    )
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(running_redis(ours=True))
        database = stack.enter_context(running_postgres(ours=True))
        provider = stack.enter_context(running_provider())
        registry = stack.enter_context(running_registry(auth=True))
        bus = stack.enter_context(starting)
        hidden = {name: a_secret(name) for name in ("gate", "bus", "database", "admin", "buyer")}
        hidden |= {"payment": a_secret("payment"), "registry": str(registry.password)}
        settings = _settings(gate.url, bus, database.create_database(), registry, hidden)
        settings |= {
            "FLASHSALE_PAYMENT_URL": provider.url,
            "PYTHONPATH": as_installed(tmp_path / "installed"),
        }
        _redis_user(gate.url, hidden["gate"])
        with engine(tmp_path, settings) as ours:
            as_operator = kafka_login(bus, "flashsale-operator") if isinstance(bus, Kafka) else {}
            for command in ("db upgrade", "topics ensure", "schema register", "gate install"):
                done = ours.command(*command.split(), **as_operator)
                assert done.returncode == 0, done.stderr
            servers = {"gate": gate, "bus": bus, "database": database, "payment": provider}
            for kind in ("serve", "worker"):
                ours.start(kind).wait_until_ready()
            yield Leaky(ours, servers, hidden)


def _settings(
    gate: str, bus: Kafka | RabbitMQ, database: str, registry: Registry, hidden: dict[str, str]
) -> dict[str, str]:
    """Put a secret wherever one can stand."""
    settings = {
        "FLASHSALE_GATE_URL": as_user(gate, "flashsale", quote(hidden["gate"], safe="")),
        "FLASHSALE_DATABASE_URL": as_user(database, "postgres", quote(hidden["database"], safe="")),
        "FLASHSALE_ADMIN_TOKEN": hidden["admin"],
        "FLASHSALE_PAYMENT_AUTH": hidden["payment"],
        "FLASHSALE_SCHEMA_REGISTRY_URL": registry.url,
        "FLASHSALE_SCHEMA_REGISTRY_AUTH": str(registry.auth),
        "FLASHSALE_PARTITIONS": "2",
        "FLASHSALE_BACKOFF_MAX_MS": "300",
        "FLASHSALE_PROBE_INTERVAL_MS": "100",
        "FLASHSALE_PAYMENT_RETRY_INITIAL_MS": "100",
        "FLASHSALE_LOG_LEVEL": "debug",
    }
    if isinstance(bus, Kafka):
        grant_kafka(bus)
        hidden["bus"] = USERS["flashsale-worker"]
        # One user for all: what leaks is looked for here, not what is allowed.
        return {**settings, **kafka_login(bus, "flashsale-worker"), "FLASHSALE_WIRE_FORMAT": "avro"}
    bus.control("add_user", "flashsale", hidden["bus"])
    bus.control("set_permissions", "-p", "/", "flashsale", ".*", ".*", ".*")
    bus_url = as_user(bus.url, "flashsale", quote(hidden["bus"], safe=""))
    return {**settings, "FLASHSALE_BUS_URL": bus_url}


def _redis_user(url: str, password: str) -> None:
    import redis  # noqa: PLC0415 - one call

    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "flashsale", "on", f">{password}", "~*", "+@all")


def until_told(program: Program, name: str, *, is_up: bool) -> None:
    """Wait until /readyz tells that a dependency is away, or back."""
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends:
        with contextlib.suppress(OSError):
            found = ask("GET", f"{program.url}/readyz").body["dependencies"]
            if found[name]["up"] is is_up:
                return
        time.sleep(0.1)
    raise AssertionError(f"{program.name} never told that {name} is {'back' if is_up else 'away'}")


def forms_of(secret: str) -> set[str]:
    """Write a secret in every way in which it may be seen."""
    return {
        secret,
        quote(secret, safe=""),
        quote(secret),
        base64.b64encode(secret.encode()).decode(),
        secret.replace("/", "\\/"),
    }


def test_no_secret_is_seen_whatever_breaks(leaky: Leaky) -> None:
    """Each dependency is broken in turn, and every output is searched."""
    bearer = leaky.secrets["admin"]
    init = "/purchase/init?productId=1&stock=1000&unitPriceMinor=100&currency=CHF"
    leaky.hear("init", "POST", leaky.door + init, token=bearer)
    assert '"saleId":"1.1"' in leaky.said["init"]
    leaky.listen("before")
    for name, server in leaky.servers.items():
        server.kill()
        if name != "payment":
            until_told(leaky.engine.programs[-1], name, is_up=False)
        leaky.listen(f"without {name}")
        leaky.run("doctor --json")
        server.start()
        if name == "gate":
            # Redis keeps its users in a file only where it was given one.
            _redis_user(server.url, leaky.secrets["gate"])
        if name != "payment":
            until_told(leaky.engine.programs[-1], name, is_up=True)
        leaky.listen(f"again {name}")
    for line in ("settings", "settings --json", "doctor", "sale list", "dead-letters list"):
        leaky.run(line)
    _with_wrong_logins(leaky)
    for program in leaky.engine.programs:
        program.stop()
    everything = leaky.everything()
    _assert_it_was_noisy(everything)
    seen = [
        (where, name)
        for where, text in everything.items()
        for name, secret in leaky.secrets.items()
        for form in forms_of(secret)
        if form in text
    ]
    marked = [where for where, text in everything.items() if MARK in text]
    assert (seen, marked) == ([], [])


def _with_wrong_logins(leaky: Leaky) -> None:
    """A wrong secret is a secret too: it is most often an old one, or another server's."""
    wrong = "Xq9%2Fwrong%40secret"
    settings = leaky.engine.settings
    for variable in ("FLASHSALE_GATE_URL", "FLASHSALE_DATABASE_URL", "FLASHSALE_BUS_URL"):
        url = settings[variable]
        if "@" not in url:
            continue
        head, _, host = url.rpartition("@")
        user = head.rpartition(":")[0]
        leaky.run("doctor --json", **{variable: f"{user}:{wrong}@{host}"})
        # Not a URL that can be read at all.
        leaky.run("settings", **{variable: f"{user}:{wrong}@127.0.0.1:port"})
        leaky.run("serve", **{variable: f"{user}:{wrong}@127.0.0.1:port"})
    nowhere = f"http://127.0.0.1:{launch.free_port()}"
    leaky.run("doctor", FLASHSALE_SCHEMA_REGISTRY_URL=nowhere)
    leaky.run("doctor", FLASHSALE_SCHEMA_REGISTRY_AUTH="Xq9:wrong")
    leaky.run("doctor", FLASHSALE_SCHEMA_REGISTRY_AUTH="Xq9-wrong")
    leaky.run("doctor", FLASHSALE_ADMIN_TOKEN="Xq9\ttoken")
    leaky.run("worker", FLASHSALE_SCHEMA_REGISTRY_URL=nowhere, FLASHSALE_START_TIMEOUT_MS="500")


def _assert_it_was_noisy(everything: dict[str, str]) -> None:
    """A search in silence would prove nothing."""
    for where in ("flashsale settings []", "flashsale doctor []"):
        assert "***" in everything[where] or len(everything[where]) > 200, where
    worker = next(text for name, text in everything.items() if name.startswith("worker-"))
    assert "warning" in worker
