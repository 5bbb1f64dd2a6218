"""Settings are read once, shown masked, and refused with all that is wrong in one message."""

import os
import sys
from pathlib import Path

import attrs
import pytest
from typed_settings import Secret

from flashsale.entry_points import EXTRAS, AdapterMissing, Group, opener, schemes
from flashsale.setting_kinds import Address, Url
from flashsale.settings import Entrypoint, Settings
from flashsale.settings_loading import (
    SettingsError,
    check,
    load_settings,
    read_settings,
    variable_of,
)
from flashsale.settings_rules import is_loopback, load_rules
from flashsale.settings_table import table
from flashsale_core.model import PurchaseRequest, SaleTerms
from flashsale_core.outcomes import Refused

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("FLASHSALE_") and not variable.startswith("FLASHSALE_TEST_"):
            monkeypatch.delenv(variable)


def refuse_some(request: PurchaseRequest, _: SaleTerms) -> Refused | None:
    """Serve as a rule of a user's own."""
    return Refused(code="NOT_YOU") if request.user_id == "mallory" else None


def _problems(entrypoint: Entrypoint = Entrypoint.RUN, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        load_settings(entrypoint, overrides)
    return raised.value.problems


def test_without_any_setting_run_starts_on_what_needs_no_server() -> None:
    """The embedded default is the default of every single setting."""
    settings = load_settings(Entrypoint.RUN)
    assert settings == Settings()
    assert settings.gate_url.is_memory
    assert settings.bus_url.is_memory
    assert settings.database_url == Url("sqlite+aiosqlite:///data/flashsale.db")


def test_everything_wrong_is_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Values, names, sources and combinations stand in one message, a line each."""
    config = tmp_path / "sale.toml"
    config.write_text('relay_bach = 3\npartitions = 0\nwire_format = "xml"\n')
    monkeypatch.setenv("FLASHSALE_CONFIG", str(config))
    monkeypatch.setenv("FLASHSALE_HTTP_PROT", "80")
    monkeypatch.setenv("FLASHSALE_HTTP_PORT", "eighty")
    monkeypatch.setenv("FLASHSALE_HTTP_HOST", "0.0.0.0")  # noqa: S104 - the point of the rule
    monkeypatch.setenv("FLASHSALE_ADMIN_TOKEN", "")
    monkeypatch.setenv("FLASHSALE_BUS_URL", "carrier-pigeon://roof")
    problems = _problems(drain_ms=-1, no_such_option=1)
    assert problems == (
        "FLASHSALE_HTTP_PROT: there is no such setting; did you mean FLASHSALE_HTTP_PORT?",
        f"{config}: relay_bach: there is no such setting; did you mean relay_batch?",
        "no_such_option: there is no such setting; `flashsale settings` lists them all",
        "FLASHSALE_HTTP_PORT: must be a whole number from 1 to 65535 (it is 'eighty')",
        "FLASHSALE_ADMIN_TOKEN: must not be empty",
        f"FLASHSALE_WIRE_FORMAT: must be one of: avro, json (it is 'xml'), from the file {config}",
        (
            f"FLASHSALE_PARTITIONS: must be a whole number from 1 to 128 (it is 0), from the file "
            f"{config}"
        ),
        (
            "FLASHSALE_DRAIN_MS: must be a whole number from 0 to 20000 (it is -1), from the "
            "command line"
        ),
        (
            "FLASHSALE_BUS_URL: nothing installed opens carrier-pigeon://; installed: amqp://, "
            "amqps://, kafka://, memory://"
        ),
        (
            "FLASHSALE_GATE_URL: memory:// forgets at every restart what was promised, and a "
            "promise may then still wait on the bus. A memory gate goes with a memory bus: name "
            "both, or neither"
        ),
    )


def test_one_wrong_setting_is_one_line() -> None:
    """The message is for a person."""
    with pytest.raises(SettingsError) as raised:
        load_settings(Entrypoint.RUN, {"http_port": 0})
    assert str(raised.value).splitlines()[0] == "1 setting is wrong:"
    assert len(str(raised.value).splitlines()) == 2


def test_the_command_line_goes_over_the_environment_over_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And each value says where it came from."""
    config = tmp_path / "sale.toml"
    config.write_text("relay_batch = 1\nworker_batch = 1\nhttp_port = 1\nrules = []\n")
    monkeypatch.setenv("FLASHSALE_CONFIG", str(config))
    monkeypatch.setenv("FLASHSALE_WORKER_BATCH", "2")
    monkeypatch.setenv("FLASHSALE_HTTP_PORT", "2")
    reading = read_settings(Entrypoint.RUN, {"http_port": 3, "http_host": None})
    settings = reading.settings
    assert (settings.relay_batch, settings.worker_batch, settings.http_port) == (1, 2, 3)
    sources = {row.variable: row.source for row in reading.rows()}
    assert sources["FLASHSALE_RELAY_BATCH"] == f"file {config}"
    assert sources["FLASHSALE_WORKER_BATCH"] == "environment"
    assert sources["FLASHSALE_HTTP_PORT"] == "command line"
    assert sources["FLASHSALE_HTTP_HOST"] == "default"


def test_a_file_that_is_missing_or_no_toml_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that was named was meant."""
    monkeypatch.setenv("FLASHSALE_CONFIG", str(tmp_path / "nowhere.toml"))
    [problem] = _problems()
    assert problem.startswith("FLASHSALE_CONFIG: cannot be read as TOML")
    (tmp_path / "nowhere.toml").write_text("= =")
    [problem] = _problems()
    assert problem.startswith("FLASHSALE_CONFIG: cannot be read as TOML")


def test_variables_of_the_test_suite_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in the environment of programs under test, and mean nothing to them."""
    monkeypatch.setenv("FLASHSALE_TEST_REDIS_URL", "redis://127.0.0.1")
    monkeypatch.setenv("FLASHSALE_SERVERS_HOME", "/tmp/servers")  # noqa: S108 - never opened
    assert load_settings(Entrypoint.RUN) == Settings()


SECRETS = {
    "gate_url": "redis://seller:hunter2@127.0.0.1:6379/0?password=hunter2",
    "bus_url": "amqp://seller:hunter2@127.0.0.1/",
    "database_url": "postgresql+asyncpg://seller:hunter2@127.0.0.1/sale?sslpassword=hunter2",
    "schema_registry_url": "http://seller:hunter2@127.0.0.1:8081",
    "schema_registry_auth": "seller:hunter2",
    "admin_token": "hunter2",
    "kafka_password": "hunter2",
}


def test_no_secret_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the table, nor in a repr that lands in a log, nor in a complaint."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(variable_of(name), value)
    monkeypatch.setenv("FLASHSALE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("FLASHSALE_KAFKA_USERNAME", "seller")
    monkeypatch.setenv("FLASHSALE_KAFKA_SASL_MECHANISM", "PLAIN")
    reading = read_settings(Entrypoint.COMMAND)
    assert "hunter2" not in repr(reading)
    assert "hunter2" not in "".join(row.value for row in reading.rows())
    shown = {row.variable: row.value for row in reading.rows()}
    assert shown["FLASHSALE_GATE_URL"] == "redis://seller:***@127.0.0.1:6379/0?password=***"
    assert shown["FLASHSALE_ADMIN_TOKEN"] == "***"
    for name, value in SECRETS.items():
        monkeypatch.setenv(variable_of(name), value.replace("://", ":/") + "\n")
    assert "hunter2" not in "".join(_problems())


def test_every_secret_among_the_settings_is_declared_as_one() -> None:
    """What sounds like a secret is one, and has no default."""
    for field in attrs.fields(Settings):
        sounds_secret = any(word in field.name for word in ("password", "token", "auth"))
        assert field.metadata["is_secret"] == sounds_secret, field.name
        if sounds_secret:
            assert field.default is None


@pytest.mark.parametrize("entrypoint", [Entrypoint.SERVE, Entrypoint.WORKER])
def test_what_lives_in_one_process_is_refused_to_programs_that_are_two(
    entrypoint: Entrypoint,
) -> None:
    """memory:// would sell twice or nothing, SQLite would wait for itself: each says why."""
    problems = _problems(entrypoint)
    assert len(problems) == 3
    assert "each would sell the whole stock" in problems[0]
    assert "the other never sees" in problems[1]
    assert "SQLite is for one process" in problems[2]


def test_several_processes_are_for_serve_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` is one process; elsewhere one of those on a port would get every connection."""
    [problem] = _problems(Entrypoint.RUN, http_processes=2)
    assert problem == "FLASHSALE_HTTP_PROCESSES: is for `flashsale serve`; this is one process"
    urls = {
        "gate_url": "redis://127.0.0.1:6379",
        "bus_url": "amqp://127.0.0.1/",
        "database_url": "postgresql+asyncpg://127.0.0.1/sale",
    }
    for entrypoint in (Entrypoint.SERVE, Entrypoint.WORKER):
        load_settings(entrypoint, {**urls, "http_processes": 2})
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    [problem] = _problems(Entrypoint.SERVE, **urls, http_processes=2)
    assert problem.startswith("FLASHSALE_HTTP_PROCESSES: needs Linux")
    load_settings(Entrypoint.SERVE, {**urls, "http_processes": 1})


def test_a_memory_gate_needs_a_memory_bus() -> None:
    """A promise that waits on a broker would meet an emptied gate after a restart."""
    [problem] = _problems(bus_url="amqp://127.0.0.1/")
    assert "goes with a memory bus" in problem
    load_settings(Entrypoint.RUN, {"gate_url": "redis://127.0.0.1:6379"})


@pytest.mark.parametrize("entrypoint", [Entrypoint.SERVE, Entrypoint.RUN])
def test_an_api_that_others_can_reach_needs_an_admin_token(entrypoint: Entrypoint) -> None:
    """Else everybody could open and close sales."""
    urls = {
        "gate_url": "redis://127.0.0.1:6379",
        "bus_url": "amqp://127.0.0.1/",
        "database_url": "postgresql+asyncpg://127.0.0.1/sale",
        "http_host": "192.0.2.1",
    }
    [problem] = _problems(entrypoint, **urls)
    assert problem.startswith("FLASHSALE_ADMIN_TOKEN: is missing")
    load_settings(entrypoint, {**urls, "admin_token": "a-long-one"})
    load_settings(entrypoint, {**urls, "http_host": "127.0.0.2"})
    load_settings(Entrypoint.WORKER, urls)


def test_loopback_is_what_only_this_machine_reaches() -> None:
    """A name that is not known to be one is not."""
    assert all(
        is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")
    )
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "localhost.example", "10.0.0.1"))  # noqa: S104 - named, not bound


def test_sasl_wants_all_of_its_settings_and_nothing_wants_half() -> None:
    """Each missing one is named, and one that would not be used is too."""
    missing = _problems(Entrypoint.COMMAND, kafka_security_protocol="SASL_SSL")
    assert [problem.split(":")[0] for problem in missing] == [
        "FLASHSALE_KAFKA_SASL_MECHANISM",
        "FLASHSALE_KAFKA_USERNAME",
        "FLASHSALE_KAFKA_PASSWORD",
    ]
    [unused] = _problems(Entrypoint.COMMAND, kafka_username="seller")
    assert "would not be used" in unused
    [no_file] = _problems(Entrypoint.COMMAND, kafka_ca="/nowhere/ca.pem")
    assert "no file" in no_file


def test_settings_that_contradict_each_other_are_refused() -> None:
    """JSON on Kafka, a backoff upside down, a registry's password without a registry."""
    kafka = {"gate_url": "redis://127.0.0.1", "bus_url": "kafka://127.0.0.1:9092"}
    assert "json is for RabbitMQ" in _problems(Entrypoint.RUN, **kafka, wire_format="json")[0]
    assert "backoff_max_ms" in _problems(backoff_initial_ms=6_000)[0]
    without_url, without_user = _problems(schema_registry_auth="nobody")
    assert "SCHEMA_REGISTRY_URL is missing" in without_url
    assert "user:password" in without_user


def test_a_policy_that_nobody_knows_is_named_with_those_that_are() -> None:
    """A promise is not made by a typing error."""
    [problem] = _problems(durability="eventually")
    assert problem.startswith("FLASHSALE_DURABILITY: must be one of: confirmed, journaled")


def test_rules_of_the_users_own_are_imported_by_their_paths(tmp_path: Path) -> None:
    """A path that does not lead to a function stops the start."""
    here = f"{__name__}:refuse_some"
    assert load_rules(load_settings(Entrypoint.RUN, {"rules": here})) == (refuse_some,)
    wrong = ("no_colon", "no.such.package:rule", f"{__name__}:nothing", f"{__name__}:DOCS")
    problems = _problems(rules=[*wrong, here])
    assert len(problems) == 4
    assert all(problem.startswith("FLASHSALE_RULES: ") for problem in problems)
    assert not list(tmp_path.iterdir())


def test_lists_are_written_with_commas_in_the_environment_and_as_lists_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both give the same."""
    origins = ("https://shop.example", "https://m.shop.example")
    monkeypatch.setenv("FLASHSALE_CORS_ORIGINS", " , ".join(origins))
    assert load_settings(Entrypoint.RUN).cors_origins == origins
    monkeypatch.delenv("FLASHSALE_CORS_ORIGINS")
    config = tmp_path / "sale.toml"
    config.write_text(f"cors_origins = {list(origins)}\n")
    monkeypatch.setenv("FLASHSALE_CONFIG", str(config))
    assert load_settings(Entrypoint.RUN).cors_origins == origins


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "127.0.0.1:", ":8081", "127.0.0.1:65536", "127.0.0.1:x", "a:-1"]
)
def test_an_address_is_a_host_and_a_port(text: str) -> None:
    """Anything else is refused."""
    assert "must be host:port" in _problems(worker_http=text)[0]


def test_an_address_reads_as_it_is_written() -> None:
    """IPv6 hosts stand in brackets."""
    settings = load_settings(Entrypoint.RUN, {"worker_http": "[::1]:8081"})
    assert settings.worker_http == Address("::1", 8081)
    assert str(settings.worker_http) == "[::1]:8081"


@pytest.mark.parametrize("text", ["", "redis", "redis:/x", "://x", "redis://h:port", "redis://h:0"])
def test_a_url_is_checked_before_anything_is_opened(text: str) -> None:
    """A malformed one is refused, not tried."""
    assert _problems(gate_url=text)[0].startswith("FLASHSALE_GATE_URL: must be a URL")


@pytest.mark.parametrize("hosts", ["a:1,b:2", "a:1,[::1]:2,c", "u:p@a:1,b:2"])
def test_a_url_may_name_several_hosts(hosts: str) -> None:
    """Brokers of Kafka, nodes of a Redis Cluster; each is checked."""
    urls = {"gate_url": "redis://127.0.0.1", "bus_url": f"kafka://{hosts}"}
    settings = load_settings(Entrypoint.COMMAND, urls)
    assert settings.bus_url.text == f"kafka://{hosts}"
    for wrong in ("x", "70000", "0"):
        problems = _problems(gate_url=f"redis://{hosts},d:{wrong}")
        assert problems[0].startswith("FLASHSALE_GATE_URL: must be a URL")


def test_the_password_of_a_url_is_found_wherever_its_hosts_are() -> None:
    """It is looked for in every log line, so it must be known."""
    assert Url("redis+cluster://u:s%3Aecret@a:1,[::1]:2,c/0").password == "s%3Aecret"
    assert Url("redis://a:1/0").password == Url("redis://u@a:1").password == ""
    assert Url("sqlite+aiosqlite:///data/x.db?a=1").path == "/data/x.db"


def test_of_several_logins_in_a_url_none_is_shown() -> None:
    """A cluster's URL has one; whoever writes more must not see them in a log."""
    shown = str(Url("redis+cluster://u:secret@a:1,u:secret@b:2/0"))
    assert "secret" not in shown
    assert shown.endswith("@b:2/0")


def test_settings_built_by_a_program_are_checked_by_the_same_rules() -> None:
    """Whoever embeds the engine builds them in code."""
    with pytest.raises(SettingsError, match="each would sell the whole stock"):
        check(Settings(), Entrypoint.SERVE)
    check(attrs.evolve(Settings(), http_port=9), Entrypoint.RUN)


def test_our_own_adapters_are_found_by_their_schemes() -> None:
    """They resolve through the same entry points as anybody's."""
    assert set(schemes(Group.GATES)) >= {"memory", "redis", "rediss"}
    assert set(schemes(Group.BUSES)) >= {"memory", "kafka", "amqp", "amqps"}
    assert set(schemes(Group.DATABASES)) >= {"sqlite+aiosqlite", "postgresql+asyncpg"}
    ours = {scheme for group in Group for scheme in schemes(group)} - {"memory"}
    assert set(EXTRAS) == ours


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"payment_lease_ms": 20_000}, "must be above two deadlines"),
        ({"payment_retry_initial_ms": 400_000}, "must not be above payment_retry_max_ms"),
        ({"payment_auth": Secret("sk")}, "FLASHSALE_PAYMENT_URL is missing"),
        ({"payment_url": Url("carrier-pigeon://x")}, "nothing installed opens carrier-pigeon://"),
    ],
)
def test_payment_settings_that_do_not_fit_are_refused(
    changed: dict[str, object], problem: str
) -> None:
    """A lease that may end during a call would let two workers call at once."""
    with pytest.raises(SettingsError, match=problem):
        check(attrs.evolve(Settings(), **changed), Entrypoint.RUN)  # type: ignore[arg-type]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error says what to install."""
    monkeypatch.delitem(sys.modules, "flashsale_redis.opening", raising=False)
    monkeypatch.delitem(sys.modules, "flashsale_redis.gate", raising=False)
    monkeypatch.delitem(sys.modules, "flashsale_redis.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "redis.exceptions", None)
    with pytest.raises(AdapterMissing, match=r"pip install 'flashsale\[redis\]'"):
        opener(Group.GATES, Url("redis://127.0.0.1"))
    [problem] = _problems(gate_url="redis://127.0.0.1")
    assert "pip install 'flashsale[redis]'" in problem


def test_the_table_in_the_docs_is_the_class() -> None:
    """Written by `python -m flashsale.settings_table > docs/settings.md`."""
    assert DOCS.read_text() == table()
