"""Servers whose users were made by the commands in docs/security.md, and by nothing else."""

from __future__ import annotations

import argparse
import importlib
import re
import secrets
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.docs.pages import ROOT, blocks
from tests.servers import Kafka, Postgres, RabbitMQ, Redis

# Its own types name nothing of what it offers.
kafka_admin: Any = importlib.import_module("confluent_kafka.admin")
PAGE = ROOT / "docs" / "security.md"
PASSWORDS = {
    name: secrets.token_hex(12) for name in ("API", "WORKER", "OWNER", "OPERATOR", "ANOTHER")
}
KAFKA_USERS = {
    "flashsale-api": PASSWORDS["API"],
    "flashsale-worker": PASSWORDS["WORKER"],
    "flashsale-operator": PASSWORDS["OPERATOR"],
    "another-service": PASSWORDS["ANOTHER"],
}
GRANT_S_MAX = 30


def commands(info: str) -> str:
    """Read a block of the page, with real passwords in it."""
    [text] = [block.text for block in blocks(PAGE) if block.info == info]
    return re.sub(r"([A-Z]+)-PASSWORD", lambda found: PASSWORDS[found[1]], text)


def lines(info: str) -> list[list[str]]:
    """Read a block's commands as a shell does."""
    return [shlex.split(line) for line in commands(info).splitlines() if line.strip()]


def as_user(url: str, user: str, password: str) -> str:
    """Put a login into a URL."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}").geturl()


def grant_redis(server: Redis) -> None:
    """Make Redis's users."""
    for words in lines("sh redis"):
        _run(words[0], "-u", server.url, *words[1:])


def grant_postgres(server: Postgres, database: str) -> None:
    """Make the roles; a server of the test's own has no others."""
    _psql(database.replace("+asyncpg", ""), commands("sql roles"))
    assert server.dsn


def grant_tables(database: str) -> None:
    """Give the roles their rights, as the tables' owner."""
    owner = as_user(database, "flashsale_owner", PASSWORDS["OWNER"])
    _psql(owner.replace("+asyncpg", ""), commands("sql grants"))


def grant_rabbitmq(server: RabbitMQ) -> None:
    """Make RabbitMQ's users."""
    for words in lines("sh rabbitmq"):
        assert words[0] == "rabbitmqctl"
        server.control(*words[1:])


def grant_kafka(server: Kafka) -> None:
    """Make the ACLs that `kafka-acls.sh` would: it is not among the broker's own libraries."""
    admin = kafka_admin.AdminClient({"bootstrap.servers": server.plaintext_bootstrap})
    bindings = [binding for words in lines("sh kafka") for binding in _bindings(words)]
    for made in admin.create_acls(list(dict.fromkeys(bindings))).values():
        made.result(GRANT_S_MAX)


def _bindings(words: list[str]) -> list[Any]:
    reader = argparse.ArgumentParser(exit_on_error=False)
    reader.add_argument("--add", action="store_true", required=True)
    reader.add_argument("--allow-principal", required=True)
    for name in ("--operation", "--topic", "--group"):
        reader.add_argument(name, action="append", default=[])
    reader.add_argument("--resource-pattern-type", default="literal")
    assert words[0] == "kafka-acls.sh"
    told = reader.parse_args(words[1:])
    pattern = {
        "literal": kafka_admin.ResourcePatternType.LITERAL,
        "prefixed": kafka_admin.ResourcePatternType.PREFIXED,
    }[told.resource_pattern_type]
    resources = [(kafka_admin.ResourceType.TOPIC, name) for name in told.topic]
    resources += [(kafka_admin.ResourceType.GROUP, name) for name in told.group]
    operations = {re.sub(r"(?<!^)(?=[A-Z])", "_", one).upper() for one in told.operation}
    # As the tool does: reading and writing need to see.
    if operations & {"READ", "WRITE"}:
        operations.add("DESCRIBE")
    return [
        kafka_admin.AclBinding(
            kind,
            name,
            pattern,
            told.allow_principal,
            "*",
            kafka_admin.AclOperation[operation],
            kafka_admin.AclPermissionType.ALLOW,
        )
        for kind, name in resources
        for operation in operations
    ]


def _psql(dsn: str, sql: str) -> None:
    _run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, dsn)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=GRANT_S_MAX, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERR" not in done.stdout, done.stdout
    return done.stdout


def kafka_login(server: Kafka, user: str) -> Mapping[str, str]:
    """Write a Kafka user as the engine's settings."""
    return {
        "FLASHSALE_BUS_URL": server.url,
        "FLASHSALE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "FLASHSALE_KAFKA_SASL_MECHANISM": "PLAIN",
        "FLASHSALE_KAFKA_USERNAME": user,
        "FLASHSALE_KAFKA_PASSWORD": KAFKA_USERS[user],
        "FLASHSALE_KAFKA_CA": str(Path(str(server.ca))),
    }
