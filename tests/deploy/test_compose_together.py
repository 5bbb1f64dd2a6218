"""The services of compose.yaml fit each other: who is asked is there, ready, and lets one in."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.files import DEPLOY, ROOT, compose

SERVICES = compose()["services"]
ON_KAFKA = ("setup-kafka", "api-kafka", "worker-kafka")
ON_RABBITMQ = ("setup-rabbitmq", "api-rabbitmq", "worker-rabbitmq")


def read(path: str) -> Any:
    """Read a file under deploy/."""
    return yaml.safe_load((DEPLOY / path).read_text("utf-8"))


def asked_by(name: str) -> set[str]:
    """Name the servers that a service's settings lead to."""
    urls = [url for key, url in SERVICES[name]["environment"].items() if key.endswith("_URL")]
    return {urlsplit(url).hostname or "" for url in urls}


def mounted(name: str) -> dict[str, str]:
    """Tell what a service sees at which path: a folder of ours, or a volume."""
    pairs = [one.split(":")[:2] for one in SERVICES[name].get("volumes", ())]
    return {target: source for source, target in pairs}


@pytest.mark.parametrize("names", [ON_KAFKA, ON_RABBITMQ])
def test_the_application_waits_for_its_setup_and_that_for_servers_that_are_well(
    names: tuple[str, ...],
) -> None:
    """A table, a topic or a function that is not there yet would end whoever looks for it."""
    setup, *processes = names
    for name in processes:
        assert SERVICES[name]["depends_on"] == {
            setup: {"condition": "service_completed_successfully"}
        }
        assert asked_by(name) == asked_by(setup)
    assert SERVICES[setup]["depends_on"] == {
        server: {"condition": "service_healthy"} for server in asked_by(setup)
    }
    for server in asked_by(setup):
        assert SERVICES[server]["healthcheck"]["test"]


@pytest.mark.parametrize("name", [*ON_KAFKA, *ON_RABBITMQ])
def test_servers_let_in_whom_they_were_made_with(name: str) -> None:
    """User, password and database, and the same on the host."""
    postgres, rabbitmq = (SERVICES[one]["environment"] for one in ("postgres", "rabbitmq"))
    database = (
        f"postgresql+asyncpg://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}"
        f"@HOST:5432/{postgres['POSTGRES_DB']}"
    )
    bus = (
        f"amqp://{rabbitmq['RABBITMQ_DEFAULT_USER']}:{rabbitmq['RABBITMQ_DEFAULT_PASS']}@HOST:5672/"
    )
    given = SERVICES[name]["environment"]
    assert given["FLASHSALE_DATABASE_URL"] == database.replace("HOST", "postgres")
    if name in ON_RABBITMQ:
        assert given["FLASHSALE_BUS_URL"] == bus.replace("HOST", "rabbitmq")
    printed = (ROOT / "scripts" / "up").read_text("utf-8")
    assert database.replace("HOST", "127.0.0.1") in printed
    assert bus.replace("HOST", "127.0.0.1") in printed


def test_prometheus_finds_the_processes_by_names_that_they_have() -> None:
    """By aliases, so that it is the same on both buses."""
    for job in read("prometheus/prometheus.yml")["scrape_configs"]:
        [where] = job["dns_sd_configs"]
        [alias] = where["names"]
        for bus in ("kafka", "rabbitmq"):
            service = SERVICES[f"{alias}-{bus}"]
            assert service["networks"]["default"]["aliases"] == [alias]
            assert service["ports"] == [f"127.0.0.1:{where['port']}:{where['port']}"]


def test_boards_rules_and_settings_lie_where_they_are_looked_for() -> None:
    """What is mounted exists, and each program is told the path that it is mounted at."""
    for name in ("prometheus", "grafana"):
        for target, source in mounted(name).items():
            if source.startswith("."):
                assert any((ROOT / source).rglob("*.*")), (name, target)
            else:
                assert source in compose()["volumes"]
    folder = mounted("prometheus")
    [told] = re.findall(r"--config\.file=(\S+)", " ".join(SERVICES["prometheus"]["command"]))
    home, _, file = told.rpartition("/")
    assert (ROOT / folder[home] / file).is_file()
    for rules in read("prometheus/prometheus.yml")["rule_files"]:
        assert (ROOT / folder[home] / rules).is_file()
    folder = mounted("grafana")
    assert (ROOT / folder["/etc/grafana/provisioning"] / "datasources").is_dir()
    [provider] = read("grafana/provisioning/dashboards/flashsale.yml")["providers"]
    assert list((ROOT / folder[provider["options"]["path"]]).glob("*.json"))
    [source] = read("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert urlsplit(source["url"]).hostname in SERVICES["grafana"]["depends_on"]


def test_what_a_server_keeps_lies_on_its_volume() -> None:
    """`make down` and `make up`, and the sales are still there."""
    kafka = SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"]
    homes = {
        "redis": "/data",
        "postgres": "/var/lib/postgresql/data",
        "kafka": kafka,
        "rabbitmq": "/var/lib/rabbitmq",
        "prometheus": "/prometheus",
        "grafana": "/var/lib/grafana",
    }
    for name, home in homes.items():
        assert mounted(name)[home] == name
    assert set(homes) == set(compose()["volumes"])
