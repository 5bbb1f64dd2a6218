"""Image and compose file, checked by their own tools, and against what the engine needs."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flashsale.settings import Settings
from tests.deploy.files import DEPLOY, ROOT, accepted, compose, image_sets, run, tool

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
APPLICATION = (
    *("setup-kafka", "api-kafka", "worker-kafka"),
    *("setup-rabbitmq", "api-rabbitmq", "worker-rabbitmq"),
)
EXPORT = re.compile(r"^(?:# or: )?export (FLASHSALE_[A-Z_]+)=", re.MULTILINE)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    """Its rules are the field's."""
    done = run(tool("hadolint"), "--failure-threshold", "style", "deploy/Dockerfile")
    assert done.returncode == 0, done.stdout


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    """The check can fail."""
    broken = tmp_path / "Dockerfile"
    broken.write_text(DOCKERFILE.replace("python:3.11.14-slim-bookworm", "python:latest"))
    assert run(tool("hadolint"), "--failure-threshold", "style", str(broken)).returncode != 0


def test_the_image_runs_as_nobody_in_particular_and_keeps_no_tool_that_builds() -> None:
    """Non-root by number, two stages of one tag, packages by hash, wheels alone."""
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(stages) == 2
    assert len(set(stages)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", stages[0])
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in last
    assert "pip" not in last
    assert "apt-get" not in DOCKERFILE
    for installs in re.findall(r"install (?:.*\\\n)*.*--requirement \S+", DOCKERFILE):
        assert "--require-hashes" in installs
    assert "--only-binary :all:" in DOCKERFILE
    assert "--without-pip" in DOCKERFILE


def test_what_the_image_starts_and_asks_is_in_it() -> None:
    """The command, where it is looked for, the health check, and both doors on every address."""
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    said = dict(re.findall(r"^(ENTRYPOINT|EXPOSE|CMD) (.+)$", last, re.MULTILINE))
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(said["ENTRYPOINT"]) == list(scripts)
    assert json.loads(said["CMD"]) == ["serve"]
    [made] = re.findall(r"^COPY --from=build (\S+) \1$", last, re.MULTILINE)
    assert f"python -m venv --without-pip {made} " in DOCKERFILE
    assert image_sets()["PATH"].split(":")[0] == f"{made}/bin"
    [checker] = re.findall(r"^COPY deploy/healthcheck\.py (\S+)$", last, re.MULTILINE)
    [asked] = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.+\])$", last, re.MULTILINE)
    assert json.loads(asked) == ["python", checker]
    settings = Settings()
    assert said["EXPOSE"] == f"{settings.http_port} {settings.worker_http.port}"
    # Within its own loopback nobody else would reach it: no probe, no Prometheus, no buyer.
    assert image_sets()["FLASHSALE_HTTP_HOST"] == "0.0.0.0"  # noqa: S104 - a container's own
    assert image_sets()["FLASHSALE_WORKER_HTTP"] == f"0.0.0.0:{settings.worker_http.port}"


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    """A build that lacks a file is found here and not on somebody's machine."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:].rstrip("/") for line in ignore if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
        assert any(source == one or source.startswith(one + "/") for one in kept), source


def test_what_the_image_holds_is_what_the_tests_ran_with() -> None:
    """No version is deployed that no test saw."""

    def pinned(name: str) -> set[str]:
        lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        return {line.split()[0] for line in lines if "==" in line}

    assert pinned("image")
    assert pinned("image") - pinned("dev") == set()
    assert pinned("build") - pinned("dev") == set()
    # Neither the test kit's libraries nor what makes coverage or types.
    assert not {one for one in pinned("image") if one.startswith(("pytest", "hypothesis"))}


def test_compose_follows_the_specification() -> None:
    """The schema is the specification's own."""
    checker = tool("check-jsonschema")
    done = run(checker, "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_compose_with_a_mistake_is_refused(tmp_path: Path) -> None:
    """The check can fail."""
    broken = tmp_path / "compose.yaml"
    broken.write_text((ROOT / "compose.yaml").read_text().replace("profiles:", "profile:"))
    checker = tool("check-jsonschema")
    assert run(checker, "--builtin-schema", "vendor.compose-spec", str(broken)).returncode != 0


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker's client is not installed")
def test_docker_compose_reads_the_file_too() -> None:
    """Needs the client with its plugin, and no engine."""
    if run("docker", "compose", "version").returncode != 0:
        pytest.skip("docker's compose plugin is not installed")
    done = run("docker", "compose", "--profile", "full", "config", "--quiet")
    assert done.returncode == 0, done.stderr


def profiles(service: dict[str, Any]) -> set[str]:
    """Tell a service's profiles."""
    return set(service["profiles"])


def test_each_profile_starts_all_that_its_services_wait_for() -> None:
    """A profile is whole in itself, and none starts two buses for the application."""
    services = compose()["services"]
    for name, service in services.items():
        waits_for = service.get("depends_on", ())
        for other in waits_for:
            assert profiles(service) <= profiles(services[other]), (name, other)
    started = {
        profile: {name for name, one in services.items() if profile in profiles(one)}
        for profile in ("infra", "kafka", "rabbitmq", "full")
    }
    assert started["infra"] == {"redis", "postgres", "kafka", "registry", "rabbitmq"}
    assert started["kafka"] == {
        *("redis", "postgres", "kafka", "registry"),
        *("setup-kafka", "api-kafka", "worker-kafka"),
    }
    assert started["rabbitmq"] == {
        *("redis", "postgres", "rabbitmq"),
        *("setup-rabbitmq", "api-rabbitmq", "worker-rabbitmq"),
    }
    assert started["full"] == started["kafka"] | {"prometheus", "grafana"}


def test_images_are_named_by_tag_and_version() -> None:
    """Nothing changes under one's hands."""
    for name, service in compose()["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+", tag), (name, service["image"])


def test_a_profile_builds_its_image_once() -> None:
    """Compose builds side by side, and the second build of one tag ends with "already exists"."""
    services = compose()["services"]
    for profile in ("kafka", "rabbitmq", "full"):
        mine = [name for name in APPLICATION if profile in profiles(services[name])]
        [builds] = [name for name in mine if "build" in services[name]]
        for name in mine:
            # Nobody else's image of that name is fetched, and who only uses it waits for the build.
            assert services[name]["image"] == services[builds]["image"]
            assert services[name]["pull_policy"] == "never"
            assert name == builds or builds in services[name]["depends_on"], name


def test_postgresql_is_not_healthy_before_its_database_is_made() -> None:
    """Until then its image answers on the socket alone, and soon ends for a moment."""
    asked = compose()["services"]["postgres"]["healthcheck"]["test"]
    assert asked[asked.index("--host") + 1] == "127.0.0.1"


LISTENS = {
    "redis": {"6379"},
    "postgres": {"5432"},
    "kafka": {"19092", "9092", "29093"},
    "registry": {"8080"},
    "rabbitmq": {"5672", "15672"},
    "prometheus": {"9090"},
    "grafana": {"3000"},
    "api-kafka": {"8080"},
    "api-rabbitmq": {"8080"},
    "worker-kafka": {"8081"},
    "worker-rabbitmq": {"8081"},
}
"""The ports of each image, as its own documentation has them; Kafka's are chosen below."""


def test_every_port_that_is_asked_or_opened_is_one_that_its_service_has() -> None:
    """By the service's name inside, and behind what is opened on the host."""
    services = compose()["services"]
    texts = [(ROOT / "compose.yaml").read_text()]
    texts += [one.read_text() for one in (DEPLOY / "grafana" / "provisioning").rglob("*.yml")]
    for name, port in re.findall(rf"\b({'|'.join(LISTENS)}):(\d{{4,5}})\b", "\n".join(texts)):
        assert port in LISTENS[name], (name, port)
    for name, service in services.items():
        for opened in service.get("ports", ()):
            assert opened.rpartition(":")[2] in LISTENS[name], (name, opened)


def test_kafka_sends_each_client_to_where_it_can_go() -> None:
    """Containers to its name, the host to loopback: a broker answers with what it advertises."""
    services = compose()["services"]
    given = services["kafka"]["environment"]

    def pairs(of: str) -> dict[str, str]:
        return dict(one.split("://") for one in given[f"KAFKA_{of}"].split(","))

    listens, advertised = pairs("LISTENERS"), pairs("ADVERTISED_LISTENERS")
    assert {name: f":{where.rpartition(':')[2]}" for name, where in advertised.items()} == {
        name: where for name, where in listens.items() if name != "CONTROLLER"
    }
    assert given["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"1@kafka{listens['CONTROLLER']}"
    for name in (one for one in APPLICATION if one.endswith("kafka")):
        bus = services[name]["environment"]["FLASHSALE_BUS_URL"]
        assert bus == f"kafka://{advertised['INSIDE']}", name
    assert services["kafka"]["healthcheck"]["test"][-1] == advertised["INSIDE"]
    [opened] = services["kafka"]["ports"]
    assert opened == f"{advertised['HOST']}{listens['HOST']}"
    assert f'kafka://{advertised["HOST"]}"' in (ROOT / "scripts" / "up").read_text()


def test_containers_of_the_application_are_locked_down() -> None:
    """Read-only, no capability, no way to more rights, and time enough to drain."""
    for name in APPLICATION:
        service = compose()["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["stop_grace_period"] == "30s"


def test_compose_opens_ports_on_loopback_alone() -> None:
    """What has a playing password is reached from this machine."""
    for service in compose()["services"].values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), port


def test_one_profile_binds_no_port_twice() -> None:
    """API and servers fit on one host."""
    for profile in ("infra", "kafka", "rabbitmq", "full"):
        bound = [
            port.split(":")[1]
            for service in compose()["services"].values()
            if profile in profiles(service)
            for port in service.get("ports", ())
        ]
        assert len(bound) == len(set(bound)), profile


def test_compose_gives_the_application_settings_that_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine's own check of settings reads them: no unknown name, no wrong value."""
    for name in APPLICATION:
        service = compose()["services"][name]
        given = {
            key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value))
            for key, value in service["environment"].items()
        }
        accepted(given, service["command"][0], monkeypatch)


def fake_docker(folder: Path, *, engine: bool) -> dict[str, str]:
    """Put a docker in front that notes what it is asked, since no engine runs here."""
    script = folder / "docker"
    script.write_text(
        f'#!/bin/sh\necho "$@" >>{folder}/asked\n[ "$1" != info ] || exit {0 if engine else 1}\n'
    )
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def up(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make up`'s script."""
    return subprocess.run(
        ["scripts/up", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_make_up_starts_infra_and_prints_the_lines_that_make_servers_prints(tmp_path: Path) -> None:
    """The same names in the same order, with the ports that compose opens."""
    done = up(fake_docker(tmp_path, engine=True))
    assert done.returncode == 0, done.stderr
    assert "compose --profile infra up --detach --wait" in (tmp_path / "asked").read_text()
    servers = (ROOT / "tests/servers/__main__.py").read_text()
    printed_there = re.findall(r'print\(f"(?:# or: )?export (FLASHSALE_[A-Z_]+)=', servers)
    assert EXPORT.findall(done.stdout) == printed_there
    opened = {
        port.split(":")[1]
        for service in compose()["services"].values()
        if "infra" in profiles(service)
        for port in service["ports"]
    }
    printed = set(re.findall(r"127\.0\.0\.1:(\d+)", done.stdout))
    assert printed == {"6379", "9092", "5672", "5432", "8082"}
    assert printed <= opened


def test_make_up_without_an_engine_says_what_to_do(tmp_path: Path) -> None:
    """One line, and a way without Docker."""
    done = up(fake_docker(tmp_path, engine=False))
    assert done.returncode == 1
    assert "make servers" in done.stderr
    assert done.stdout == ""


def test_make_down_stops_every_profile(tmp_path: Path) -> None:
    """Whichever was started."""
    assert up(fake_docker(tmp_path, engine=True), "down").returncode == 0
    asked = (tmp_path / "asked").read_text()
    for profile in ("infra", "kafka", "rabbitmq", "full"):
        assert f"--profile {profile}" in asked


@pytest.fixture
def healthy_port() -> Any:
    """A door that answers /healthz."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("door", ["api", "worker", "neither"])
def test_the_health_check_looks_at_the_door_that_there_is(door: str, healthy_port: int) -> None:
    """An API's or a worker's; with neither it fails and says why."""
    dead = 1  # nobody listens on the first port
    api = healthy_port if door == "api" else dead
    worker = healthy_port if door == "worker" else dead
    done = subprocess.run(
        [sys.executable, "deploy/healthcheck.py"],
        cwd=ROOT,
        env={
            "FLASHSALE_HTTP_PORT": str(api),
            "FLASHSALE_WORKER_HTTP": f"0.0.0.0:{worker}",
            # Docker's client puts the host's proxy into every container.
            "http_proxy": f"http://127.0.0.1:{dead}",
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode == 0) == (door != "neither")
    assert ("/healthz" in done.stderr) == (door == "neither")


def test_the_command_of_each_container_is_one_of_ours() -> None:
    """`serve` and `worker`, and the four steps of the setup."""
    services = compose()["services"]
    assert services["api-kafka"]["command"] == services["api-rabbitmq"]["command"] == ["serve"]
    assert services["worker-kafka"]["command"] == ["worker"]
    steps = services["setup-kafka"]["command"][0].split("; ")
    assert steps == [
        *("flashsale db upgrade", "flashsale topics ensure"),
        *("flashsale schema register", "flashsale gate install"),
    ]
    assert json.dumps(services["setup-rabbitmq"]["command"]).count("schema") == 0
