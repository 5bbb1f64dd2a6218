"""A URL is taken apart in one way by all who read one, several hosts in brackets included."""

import pytest

from flashsale_core.operating import Verdict
from flashsale_core.urls import UrlHost, url_parts
from flashsale_otel.labels import Labels, labels_of
from flashsale_sql.engines import Waits, postgresql_arguments
from flashsale_sql.operating import SqlOperator
from tests.unit.test_traces import NAMES

HOSTS = "a:1,[::1]:2"
"""Python's own urlsplit refuses these from 3.11.4 on, and in Debian's 3.11.2."""


def test_all_parts_are_told_still_encoded() -> None:
    """Login to the last @, hosts in their own case, a fragment left out."""
    parts = url_parts("x+y.z-1://ann:p%40s:s@A:1, [FE80::1] ,c/d/e%2F?f=g&h=/?i#j")
    assert (parts.scheme, parts.login, parts.password) == ("x+y.z-1", "ann:p%40s:s", "p%40s:s")
    assert parts.hosts == (UrlHost("A", 1), UrlHost("FE80::1"), UrlHost("c"))
    assert [str(host) for host in parts.hosts] == ["A:1", "[FE80::1]", "c"]
    assert (parts.path, parts.query) == ("/d/e%2F", "f=g&h=/?i")


def test_a_url_without_a_server_has_one_host_without_a_name() -> None:
    """A file, or this process's memory."""
    assert url_parts("memory://").hosts == (UrlHost(""),)
    parts = url_parts("sqlite+aiosqlite:///data/x.db")
    assert (parts.hosts, parts.path) == ((UrlHost(""),), "/data/x.db")


@pytest.mark.parametrize("url", ["", "x", "x:/y", "://y", "X://y", "1x://y"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """Its rule is told, with an example."""
    with pytest.raises(ValueError, match="must be a URL, as in"):
        url_parts(url)


@pytest.mark.parametrize("host", ["a:x", "a:0", "a:70000", "[::1", "::1", "a]:1"])
def test_a_malformed_host_is_refused_in_any_place_and_not_repeated(host: str) -> None:
    """The URL may hold a password."""
    for hosts in (host, f"b:1,{host}"):
        with pytest.raises(ValueError, match="malformed") as told:
            url_parts(f"x://u:secret@{hosts}/")
        assert "secret" not in str(told.value)
        assert told.value.__cause__ is None


def test_a_url_does_not_show_its_password() -> None:
    """It may end in a log."""
    assert "secret" not in repr(url_parts("x://u:secret@a"))


def _labels(gate: str, bus: str, database: str) -> Labels:
    return labels_of(
        gate_url=gate, bus_url=bus, database_url=database, payment_url=None, names=NAMES
    )


def test_spans_name_no_server_where_the_url_names_several() -> None:
    """Which of them answered is not known; the traces open all the same."""
    labels = _labels(
        f"redis+cluster://u:secret@{HOSTS}",
        f"kafka://{HOSTS}",
        f"postgresql+asyncpg://u:secret@{HOSTS}/shop",
    )
    assert dict(labels.gate) == {"db.system.name": "redis"}
    assert dict(labels.bus.server) == {}
    assert labels.database == {"db.system.name": "postgresql", "db.namespace": "shop"}


def test_spans_name_the_one_server_without_brackets_and_login() -> None:
    """As the conventions write an address."""
    labels = _labels("redis://u:secret@[::1]:2/0", "amqp://u:secret@r/v", "sqlite+aiosqlite:///x")
    assert labels.gate == {
        "db.system.name": "redis",
        "server.address": "::1",
        "server.port": 2,
    }
    assert labels.bus.server == {"server.address": "r"}
    assert labels.database == {"db.system.name": "sqlite"}


@pytest.mark.parametrize(
    ("hosts", "dsn"),
    [
        (HOSTS, "postgresql://u:p%2Fw@/shop?host=a%3A1%2C%5B%3A%3A1%5D%3A2"),
        ("a:1,b:2", "postgresql://u:p%2Fw@a:1,b:2/shop?"),
        ("[::1]:2", "postgresql://u:p%2Fw@[::1]:2/shop?"),
        ("%2Frun%2FPostgres", "postgresql://u:p%2Fw@%2Frun%2FPostgres/shop?"),
    ],
)
def test_the_driver_is_told_several_hosts_in_a_way_that_it_takes(hosts: str, dsn: str) -> None:
    """It splits with Python's own urlsplit."""
    arguments = postgresql_arguments(f"postgresql+asyncpg://u:p%2Fw@{hosts}/shop", Waits())
    assert arguments["dsn"] == dsn


async def test_the_doctor_of_a_database_with_several_hosts_says_that_they_are_away() -> None:
    """Nothing listens on port 1."""
    url = "postgresql+asyncpg://u:p@127.0.0.1:1,127.0.0.1:1/shop"
    [finding] = await SqlOperator(url).diagnose()
    assert finding.verdict is Verdict.WRONG
    assert "start PostgreSQL" in str(finding)
