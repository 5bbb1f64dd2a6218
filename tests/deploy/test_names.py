"""Every name of the engine that a page or a deployed file uses exists in the code.

Settings, topics, queues, groups, subjects, ports, routes, commands and make's targets. Each kind is
found by its form wherever it stands; what the form finds and the code does not know is an error.
"""

import re
import tomllib
from functools import cache

import attrs
import pytest
from cyclopts import App

from flashsale.commands.app import build_app
from flashsale.http.__main__ import document
from flashsale.settings import Settings
from flashsale.settings_loading import variable_of
from flashsale_otel.labels import PURCHASE, PURCHASES
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.wire import PURCHASE_HEADER
from tests.deploy.files import ROOT, compose, containers, ours, texts
from tests.docs.pages import pages

Found = set[tuple[str, str]]
Texts = dict[str, str]

SETTING = re.compile(r"\bFLASHSALE_[A-Z][A-Z_]*[A-Z]\b")
TOPIC = re.compile(r"(?<![\w./-])flashsale\.(?:purchase|orders)[\w.-]*\w")
GROUP = re.compile(r"(?<![\w./-])flashsale-purchase-\w+")
"""Groups of Kafka, and a header of RabbitMQ; two attributes of spans look like topics."""
SUBJECT = re.compile(r"\bch\.luimode\.flashsale\.[A-Z]\w+")
PORT = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]|0\.0\.0\.0):(\d{2,5})\b")
HOST_PORT = re.compile(r"(?<![\w.-])(?:[a-z][a-z0-9.-]*|//|\d{4}):(\d{4,5})\b(?![.\d])")
CONTAINER_PORT = re.compile(
    r"\b(?:containerPort|targetPort|port): (\d+)|EXPOSE ([\d ]+)|(?<=[\" ])(\d{4}):\d{4}\b"
)
ROUTE = re.compile(
    r"\b(GET|POST) +(/[a-z][\w/{}.-]*)"
    r"|()(?:127\.0\.0\.1:80(?:80|81|90)|httpGet: \{path: |metrics_path: |^ +path: (?!/spec/|/var/)"
    r"|`(?!/tmp`)|(?<=[a-z] {2}))"
    r"(/[a-z][\w/{}.-]*)",
    re.MULTILINE,
)
POSTS = re.compile(r" (?:-X|--request) POST\b| (?:-d|--data|--json) ")
COMMAND = re.compile(
    r"(?:^|[`;\"&] ?|\$ |run )flashsale ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", re.MULTILINE
)
TARGET = re.compile(
    r"(?:[`(]|&& |run: |\w=\w+ )make ([a-z][a-z-]*)|^make ([a-z][a-z-]*)(?=$| {2}| [|#]| [A-Z]+=)",
    re.MULTILINE,
)

NOT_SETTINGS = {
    *("FLASHSALE_CONFIG", "FLASHSALE_SERVERS_HOME", "FLASHSALE_CI"),
    *("FLASHSALE_TEST_REDIS_URL", "FLASHSALE_TEST_RABBITMQ_URL", "FLASHSALE_TEST_POSTGRES_URL"),
}
OF_OTHERS = {
    *(6379, 26379, 5432, 5433, 6432, 9092, 19092, 29093, 5672, 5671, 15672, 8082, 3000, 9090, 9093),
    *(53, 443, 4317, 4318, 7000, 7001, 7002, 8090),
}
"""Ports of servers that are not ours, and 8090, which README proposes where 8080 is busy."""
OF_OTHER_SERVERS = {"/health/ready", "/v1/charges", "/sale/purchase/buy"}
"""The registry's, a payment gateway's, and ours under the path of another application."""


def everything() -> Texts:
    """Read every page and every deployed file."""
    written = {page.relative_to(ROOT).as_posix(): page.read_text() for page in pages()}
    return {**written, **texts()}


def found(pattern: re.Pattern[str], given: Texts) -> Found:
    """Find what has the form of a kind, with where it stands."""
    return {
        (file, next(group for group in match.groups() or (match[0],) if group))
        for file, text in given.items()
        for match in pattern.finditer(text)
    }


def unknown_settings(given: Texts) -> Found:
    """Settings that cannot be set."""
    known = {variable_of(field.name) for field in attrs.fields(Settings)} | NOT_SETTINGS
    return {one for one in found(SETTING, given) if one[1] not in known}


def unknown_topics(given: Texts) -> Found:
    """Topics, queues, routing keys and groups that the engine does not have."""
    settings = Settings()
    rabbit = RabbitMQConfig(url="amqp://127.0.0.1/", accepted_partitions=settings.partitions)
    known = {
        *(settings.requests_topic, settings.accepted_topic, settings.orders_topic),
        *(f"{settings.requests_topic}-dlt", rabbit.dead_letters, *rabbit.accepted_queues()),
        *(settings.consumer_group, settings.accepted_group, PURCHASE_HEADER),
        *(PURCHASE, PURCHASES),
    }
    used = found(TOPIC, given) | found(GROUP, given)
    return {one for one in used if one[1] not in known}


def unknown_subjects(given: Texts) -> Found:
    """Subjects without a schema."""
    known = {file.stem for file in (ROOT / "schemas").glob("*.avsc")}
    return {one for one in found(SUBJECT, given) if one[1].removesuffix(".avsc") not in known}


def unknown_ports(given: Texts) -> Found:
    """Ports on which neither we nor a server that we use listens."""
    settings = Settings()
    known = {settings.http_port, settings.worker_http.port} | OF_OTHERS
    used = found(PORT, given) | found(HOST_PORT, given) | found(CONTAINER_PORT, given)
    return {
        (file, port) for file, ports in used for port in ports.split() if int(port) not in known
    }


@cache
def routes() -> frozenset[tuple[str, str]]:
    """List what is answered: a method and a path, each variable part as `{}`."""
    given = document()
    listed = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, operations in given["paths"].items()
        for method in operations
    }
    return frozenset(listed | {("GET", "/docs"), ("GET", "/openapi.json")})


def method_of(text: str, at: int) -> str:
    """Tell how the `curl` around a URL asks; nothing where it is no curl."""
    begin = end = at
    while (begin := text.rfind("\n", 0, begin)) > 0 and text[begin - 1] == "\\":
        pass
    while (end := text.find("\n", end + 1)) > 0 and text[end - 1] == "\\":
        pass
    line = text[begin + 1 : end if end > 0 else len(text)]
    if not re.search(r"\bcurl ", line):
        return ""
    return "POST" if POSTS.search(line) else "GET"


def unknown_routes(given: Texts) -> Found:
    """Routes that are answered 404 or 405, whatever stands for their variable parts."""

    def is_known(method: str, path: str) -> bool:
        asked = path.rstrip("/").split("/")
        for known, route in routes():
            parts = route.split("/")
            fits = len(parts) == len(asked) and all(
                mine in ("{}", his) or his.startswith("{")
                for mine, his in zip(parts, asked, strict=True)
            )
            if fits and method in ("", known):
                return True
        return path.endswith("/") and any(route.startswith(path) for _, route in routes())

    used = {
        (file, match[1] or method_of(text, match.start()), match[2] or match[4])
        for file, text in given.items()
        for match in ROUTE.finditer(text)
    }
    return {
        (file, path)
        for file, method, path in used
        if not is_known(method, path)
        and not any(path.startswith(other) for other in OF_OTHER_SERVERS)
    }


@cache
def commands() -> frozenset[str]:
    """List what can be typed behind `flashsale`."""

    def go_through(app: App, before: str) -> set[str]:
        listed = set()
        for name in app:
            if not name.startswith("-"):
                listed |= {f"{before}{name}", *go_through(app[name], f"{before}{name} ")}
        return listed

    return frozenset(go_through(build_app(), ""))


def unknown_commands(given: Texts) -> Found:
    """Commands that cannot be typed: the second word counts where the first is a group."""

    def is_known(words: str) -> bool:
        first = words.partition(" ")[0]
        is_group = any(one.startswith(f"{first} ") for one in commands())
        return words in commands() if is_group and " " in words else first in commands()

    return {one for one in found(COMMAND, given) if not is_known(one[1])}


def unknown_targets(given: Texts) -> Found:
    """Targets that make does not know."""
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    return {one for one in found(TARGET, given) if one[1] not in known}


CHECKS = (
    unknown_settings,
    unknown_topics,
    unknown_subjects,
    unknown_ports,
    unknown_routes,
    unknown_commands,
    unknown_targets,
)


@pytest.mark.parametrize("check", CHECKS)
def test_every_name_that_is_used_exists(check: object) -> None:
    """On every page, in every deployed file."""
    assert callable(check)
    assert check(everything()) == set()


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("compose.yaml", "FLASHSALE_GATE_URL", "FLASHSALE_GATES_URL"),
        ("deploy/kubernetes/base/kustomization.yaml", "FLASHSALE_NAMESPACE", "FLASHSALE_SPACE"),
        ("deploy/terraform/modules/kafka/outputs.tf", "FLASHSALE_BUS_URL", "FLASHSALE_BUS"),
        ("deploy/terraform/modules/names/main.tf", "flashsale.orders", "flashsale.orders.new"),
        (
            "deploy/kubernetes/components/kafka/scaled-object.yaml",
            "purchase.accepted",
            "purchase.x",
        ),
        (
            "deploy/kubernetes/components/kafka/scaled-object.yaml",
            "purchase-processor",
            "purchase-x",
        ),
        ("deploy/terraform/modules/names/main.tf", "flashsale.Barrier", "flashsale.Wall"),
        ("deploy/kubernetes/base/api.yaml", "containerPort: 8080", "containerPort: 8088"),
        ("deploy/kubernetes/base/worker.yaml", "path: /readyz", "path: /ready"),
        ("deploy/kubernetes/components/observed/service-monitor.yaml", "/metrics", "/metric"),
        ("compose.yaml", "flashsale db upgrade", "flashsale db update"),
        ("compose.yaml", "make up", "make upp"),
        ("README.md", "POST /purchase/buy", "POST /purchase/bye"),
        ("README.md", "127.0.0.1:8080/purchase", "127.0.0.1:8085/purchase"),
        ("README.md", "8080/purchase/buy", "8080/purchase/bye"),
        ("README.md", "make test\n", "make tests\n"),
        (".github/workflows/ci.yml", "/purchase/init", "/purchase/open"),
        ("docs/observe.md", "`/metrics`", "`/metric`"),
        ("docs/tracing.md", "collector:4318", "collector:4381"),
        ("deploy/grafana/provisioning/datasources/prometheus.yml", "9090", "9909"),
        ("README.md", "flashsale gate install", "flashsale gate instal"),
        ("docs/security.md", "flashsale.purchase.requests", "flashsale.purchase.request"),
    ],
)
def test_a_broken_name_is_found(file: str, right: str, wrong: str) -> None:
    """Of each kind, in each place."""
    given = everything()
    assert right in given[file]
    broken = {file: given[file].replace(right, wrong)}
    assert set().union(*(check(broken) for check in CHECKS))


def test_every_command_of_a_container_can_be_typed() -> None:
    """In compose.yaml and in every overlay."""
    args = [one["args"] for pod in ours("production-kafka").values() for one in containers(pod)]
    args += [
        service["command"]
        for name, service in compose()["services"].items()
        if name.startswith(("api-", "worker-"))
    ]
    assert args
    assert {" ".join(one) for one in args} <= commands()


def test_every_image_of_ours_is_of_this_version() -> None:
    """A release that forgets one would start the last one's program."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tag = re.compile(r"\bflashsale:(\d[\w.]*\w)|^ +newTag: (\S+)$", re.MULTILINE)
    tags = found(tag, everything())
    assert {file for file, _ in tags} >= {
        *("compose.yaml", "deploy/Dockerfile", "deploy/kubernetes/base/kustomization.yaml"),
        *("docs/kubernetes.md", ".github/workflows/ci.yml"),
    }
    assert {one for one in tags if one[1] != version} == set()
