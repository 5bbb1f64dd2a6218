"""The Terraform modules, parsed and compared with the code: no provider can be asked here."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import hcl2
import pytest

from flashsale.settings import Settings
from flashsale.settings_loading import variable_of
from flashsale_kafka.topics import (
    DAY_MS,
    DEAD_LETTER_BYTES_MAX,
    MIN_INSYNC_REPLICAS,
    REPLICATION,
    RETENTION_MS_MIN,
)
from tests.deploy.files import DEPLOY, ROOT

TERRAFORM = DEPLOY / "terraform"
MODULES = ("kafka", "confluent-cloud")
PARSER_S_OWN = {"__comments__", "__is_block__"}
GRANT = re.compile(
    r"^kafka-acls\.sh --add --allow-principal User:flashsale-(\w+) (.*)$", re.MULTILINE
)


def plain(value: Any) -> Any:
    """Take off the quotes and the interpolation marks that the parser keeps."""
    if isinstance(value, str):
        text = value.removeprefix("${").removesuffix("}") if value.startswith("${") else value
        return text.strip('"').strip("()")
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {plain(name): plain(one) for name, one in value.items() if name not in PARSER_S_OWN}
    return value


def parsed(folder: Path) -> dict[str, list[Any]]:
    """Read all files of a folder as one, as Terraform does."""
    together: dict[str, list[Any]] = {}
    for file in sorted(folder.glob("*.tf")):
        with file.open(encoding="utf-8") as text:
            for kind, found in hcl2.load(text).items():
                if isinstance(found, list):
                    together.setdefault(kind, []).extend(plain(found))
    return together


def named(blocks: list[Any]) -> dict[str, Any]:
    """Join blocks that have one name each."""
    return {name: body for block in blocks for name, body in block.items()}


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> Path:
    """Each module."""
    found: Path = TERRAFORM / "modules" / request.param
    return found


def names(folder: Path) -> dict[str, str]:
    """Read a module's names of topics and groups."""
    [local] = parsed(folder)["locals"]
    return {f"local.{key}": value for key, value in local.items() if isinstance(value, str)}


def test_topics_and_groups_are_the_engine_s_own(module: Path) -> None:
    """By the settings' defaults."""
    settings = Settings()
    found = names(module)
    assert found["local.requests"] == settings.requests_topic
    assert found["local.accepted"] == settings.accepted_topic
    assert found["local.orders"] == settings.orders_topic
    assert found["local.dead_letters"] == f"{settings.requests_topic}-dlt"
    assert found["local.requests_group"] == settings.consumer_group
    assert found["local.accepted_group"] == settings.accepted_group
    [local] = parsed(module)["locals"]
    assert set(local["topics"]) == {
        *("local.requests", "local.accepted", "local.orders", "local.dead_letters"),
    }


def test_topics_have_the_shape_that_the_engine_asks_for(module: Path) -> None:
    """Retention, policy, width, copies: what `topics ensure` would make."""
    text = (module / "main.tf").read_text()
    variables = named(parsed(module)["variable"])
    assert '"cleanup.policy"' in text
    assert re.search(r'"cleanup\.policy"\s*= "delete"', text)
    assert f'"max.message.bytes" = "{DEAD_LETTER_BYTES_MAX}"' in text
    assert variables["retention_days"]["default"] * DAY_MS == RETENTION_MS_MIN
    assert variables["partitions"]["default"] == Settings().partitions
    if module.name == "kafka":
        assert variables["replication_factor"]["default"] == REPLICATION
        assert variables["min_insync_replicas"]["default"] == MIN_INSYNC_REPLICAS


def granted(module: Path) -> set[tuple[str, str, str, str, str]]:
    """List who may do what, one operation each, in small letters."""
    resolve = names(module)
    [local] = parsed(module)["locals"]
    return {
        (
            right["who"],
            right["kind"].lower(),
            resolve.get(right["name"], right["name"]),
            right["pattern"].lower(),
            operation.replace("_", "").lower(),
        )
        for right in local["rights"]
        for operation in right["operations"]
    }


def documented() -> set[tuple[str, str, str, str, str]]:
    """Read the same out of docs/security.md, whose commands an integration test runs."""
    page = (ROOT / "docs" / "security.md").read_text()
    found = set()
    for who, rest in GRANT.findall(page):
        prefixed = "prefixed" if "--resource-pattern-type prefixed" in rest else "literal"
        operations = re.findall(r"--operation (\w+)", rest)
        for kind in ("topic", "group"):
            for name in re.findall(rf"--{kind} (\S+)", rest):
                found |= {(who, kind, name, prefixed, one.lower()) for one in operations}
    return found


def test_rights_are_those_that_the_tests_run_the_engine_with(module: Path) -> None:
    """docs/security.md names the least that works; KEDA looks and does nothing else."""
    rights = granted(module)
    assert {one for one in rights if one[0] != "keda"} == documented()
    assert {one[4] for one in rights if one[0] == "keda"} == {"describe"}


def test_every_schema_has_its_subject(module: Path) -> None:
    """Under the record's full name, from this repository's file."""
    text = (module / "main.tf").read_text()
    subjects = set(re.findall(r'"(ch\.luimode\.flashsale\.\w+)"', text))
    assert subjects == {file.stem for file in (ROOT / "schemas").glob("*.avsc")}
    assert (module / "../../../../schemas").resolve() == ROOT / "schemas"


def test_outputs_are_settings_that_the_engine_has(module: Path) -> None:
    """Everything that the topics decide is put out, and nothing that is no setting."""
    text = (module / "outputs.tf").read_text()
    found = set(re.findall(r"(FLASHSALE_[A-Z_]+)\s*=", text))
    assert found <= {variable_of(field.name) for field in attrs.fields(Settings)}
    assert found >= {
        *("FLASHSALE_BUS_URL", "FLASHSALE_PARTITIONS", "FLASHSALE_KAFKA_SECURITY_PROTOCOL"),
        *("FLASHSALE_REQUESTS_TOPIC", "FLASHSALE_ACCEPTED_TOPIC", "FLASHSALE_ORDERS_TOPIC"),
        *("FLASHSALE_DEAD_LETTER_TOPIC", "FLASHSALE_CONSUMER_GROUP", "FLASHSALE_ACCEPTED_GROUP"),
        *("FLASHSALE_SCHEMA_REGISTRY_URL", "FLASHSALE_KAFKA_SASL_MECHANISM"),
    }
    secret = {name for name in found if re.search(r"PASSWORD|AUTH|USERNAME", name)}
    if module.name == "confluent-cloud":
        outputs = named(parsed(module)["output"])
        assert outputs["secrets"]["sensitive"] is True
        assert outputs["keda"]["sensitive"] is True
        assert len(secret) == 3
    else:
        assert secret == set()


def test_what_is_used_is_declared_and_what_is_declared_is_used(module: Path) -> None:
    """Variables and locals; Terraform would say so, where it runs."""
    text = "\n".join(file.read_text() for file in sorted(module.glob("*.tf")))
    found = parsed(module)
    declared = set(named(found["variable"]))
    assert declared == set(re.findall(r"\bvar\.(\w+)", text))
    [local] = found["locals"]
    assert set(local) == set(re.findall(r"\blocal\.(\w+)", text))
    for body in named(found["variable"]).values():
        assert body["description"]


@pytest.mark.parametrize("example", MODULES)
def test_the_example_gives_its_module_what_it_asks_for(example: str) -> None:
    """Every variable without a default, and none that there is not."""
    used = named(parsed(TERRAFORM / "examples" / example)["module"])["flashsale"]
    folder = (TERRAFORM / "examples" / example / used["source"]).resolve()
    assert folder == TERRAFORM / "modules" / example
    variables = named(parsed(folder)["variable"])
    given = set(used) - {"source"}
    assert given <= set(variables)
    assert {name for name, body in variables.items() if "default" not in body} <= given
    outputs = set(named(parsed(folder)["output"]))
    text = (TERRAFORM / "examples" / example / "main.tf").read_text()
    assert set(re.findall(r"module\.flashsale\.(\w+)", text)) == outputs


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_would_format_nothing() -> None:
    """As its own formatter writes it."""
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-recursive", str(TERRAFORM)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
