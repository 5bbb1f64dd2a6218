"""The Terraform modules, parsed and compared with the code: no provider can be asked here."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import hcl2
import pytest

from flashsale.settings import Entrypoint, Settings
from flashsale.settings_loading import load_settings, variable_of
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
NAMES = TERRAFORM / "modules" / "names"
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


def names() -> dict[str, str]:
    """Read the names of topics and groups."""
    [local] = parsed(NAMES)["locals"]
    return {f"local.{key}": value for key, value in local.items() if isinstance(value, str)}


def outputs(folder: Path) -> dict[str, Any]:
    """Read what a module puts out, as it is written."""
    return {name: body["value"] for name, body in named(parsed(folder)["output"]).items()}


def test_topics_and_groups_are_the_engine_s_own() -> None:
    """By the settings' defaults."""
    settings = Settings()
    found = names()
    assert found["local.requests"] == settings.requests_topic
    assert found["local.accepted"] == settings.accepted_topic
    assert found["local.orders"] == settings.orders_topic
    assert found["local.dead_letters"] == f"{settings.requests_topic}-dlt"
    assert found["local.requests_group"] == settings.consumer_group
    assert found["local.accepted_group"] == settings.accepted_group
    put_out = outputs(NAMES)
    assert put_out["settings"] == {
        "FLASHSALE_REQUESTS_TOPIC": "local.requests",
        "FLASHSALE_ACCEPTED_TOPIC": "local.accepted",
        "FLASHSALE_ORDERS_TOPIC": "local.orders",
        "FLASHSALE_DEAD_LETTER_TOPIC": "local.dead_letters",
        "FLASHSALE_CONSUMER_GROUP": "local.requests_group",
        "FLASHSALE_ACCEPTED_GROUP": "local.accepted_group",
    }
    assert set(put_out["topics"]) == {
        *("local.requests", "local.accepted", "local.orders", "local.dead_letters"),
    }


def test_every_module_takes_its_names_from_one_place(module: Path) -> None:
    """And writes none of its own; what it makes is all that is named there."""
    found = parsed(module)
    [used] = [body for body in found["module"] if "names" in body]
    assert (module / used["names"]["source"]).resolve() == NAMES
    for file in module.glob("*.tf"):
        assert not re.search(r'"(flashsale[.-]|ch\.)', file.read_text()) or file.stem == "variables"
    text = (module / "main.tf").read_text()
    assert text.count("= module.names.topics\n") == 1
    assert len(re.findall(r"for_each\s*= .*module\.names\.schemas", text)) >= 1
    assert len(re.findall(r"for right in module\.names\.rights", text)) == 1


def test_topics_have_the_shape_that_the_engine_asks_for(module: Path) -> None:
    """Retention, policy, width, copies: what `topics ensure` would make."""
    [local] = parsed(NAMES)["locals"]
    assert local["shape"] == {
        "cleanup.policy": "delete",
        "retention.ms": "tostring(var.retention_days * 24 * 60 * 60 * 1000",
    }
    text = (NAMES / "outputs.tf").read_text()
    assert f'"max.message.bytes" = "{DEAD_LETTER_BYTES_MAX}"' in text
    variables = named(parsed(module)["variable"])
    retention = named(parsed(NAMES)["variable"])["retention_days"]
    assert retention["default"] * DAY_MS == RETENTION_MS_MIN
    # What is left out further out is this default; said there again, it could differ.
    assert retention["nullable"] is False
    assert variables["retention_days"]["default"] is None
    assert variables["partitions"]["default"] == Settings().partitions
    if module.name == "kafka":
        assert (
            '"min.insync.replicas" = tostring(var.min_insync_replicas)'
            in (module / "main.tf").read_text()
        )
        assert variables["replication_factor"]["default"] == REPLICATION
        assert variables["min_insync_replicas"]["default"] == MIN_INSYNC_REPLICAS


def granted() -> set[tuple[str, str, str, str, str]]:
    """List who may do what, one operation each, in small letters."""
    resolve = names()
    [local] = parsed(NAMES)["locals"]
    return {
        (
            right["who"],
            right["kind"].lower(),
            resolve.get(right["name"], right["name"]),
            right["pattern"].lower(),
            operation.lower(),
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


def test_rights_are_those_that_the_tests_run_the_engine_with() -> None:
    """docs/security.md names the least that works; KEDA looks and does nothing else."""
    rights = granted()
    assert {one for one in rights if one[0] != "keda"} == documented()
    assert {one[4] for one in rights if one[0] == "keda"} == {"describe"}


def test_confluents_words_are_those_of_kafkas_tools_in_capitals() -> None:
    """`DescribeConfigs` is its `DESCRIBE_CONFIGS`."""
    [local] = parsed(NAMES)["locals"]
    words = {right[key] for right in local["rights"] for key in ("kind", "pattern")}
    words |= {operation for right in local["rights"] for operation in right["operations"]}
    [spelled] = parsed(TERRAFORM / "modules" / "confluent-cloud")["locals"]
    capitals = {word: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).upper() for word in words}
    assert spelled["spelled"] == capitals


def test_every_schema_has_its_subject() -> None:
    """Under the record's full name, from this repository's file."""
    [local] = parsed(NAMES)["locals"]
    assert set(local["subjects"]) == {file.stem for file in (ROOT / "schemas").glob("*.avsc")}
    assert '"${path.module}/../../../../schemas"' in (NAMES / "outputs.tf").read_text()
    assert (NAMES / "../../../../schemas").resolve() == ROOT / "schemas"


def test_outputs_are_settings_that_the_engine_has(module: Path) -> None:
    """Everything that the topics decide is put out, and nothing that is no setting."""
    text = "".join((folder / "outputs.tf").read_text() for folder in (NAMES, module))
    found = set(re.findall(r"(FLASHSALE_[A-Z_]+)\s*=", text))
    assert re.search(r"merge\(\s*module\.names\.settings,", text)
    assert found <= {variable_of(field.name) for field in attrs.fields(Settings)}
    assert found >= {
        *("FLASHSALE_BUS_URL", "FLASHSALE_PARTITIONS", "FLASHSALE_KAFKA_SECURITY_PROTOCOL"),
        *("FLASHSALE_REQUESTS_TOPIC", "FLASHSALE_ACCEPTED_TOPIC", "FLASHSALE_ORDERS_TOPIC"),
        *("FLASHSALE_DEAD_LETTER_TOPIC", "FLASHSALE_CONSUMER_GROUP", "FLASHSALE_ACCEPTED_GROUP"),
        *("FLASHSALE_SCHEMA_REGISTRY_URL", "FLASHSALE_KAFKA_SASL_MECHANISM"),
    }
    secret = {name for name in found if re.search(r"PASSWORD|AUTH|USERNAME", name)}
    if module.name == "confluent-cloud":
        put_out = named(parsed(module)["output"])
        assert put_out["secrets"]["sensitive"] is True
        assert put_out["keda"]["sensitive"] is True
        assert len(secret) == 3
    else:
        assert secret == set()


@pytest.mark.parametrize("name", [*MODULES, "names"])
def test_what_is_used_is_declared_and_what_is_declared_is_used(name: str) -> None:
    """Variables and locals; Terraform would say so, where it runs."""
    module = TERRAFORM / "modules" / name
    text = "\n".join(file.read_text() for file in sorted(module.glob("*.tf")))
    found = parsed(module)
    declared = set(named(found["variable"]))
    assert declared == set(re.findall(r"\bvar\.(\w+)", text))
    [local] = found["locals"]
    assert set(local) == set(re.findall(r"\blocal\.(\w+)", text))
    for body in named(found["variable"]).values():
        assert body["description"]
    put_out = set(re.findall(r"module\.names\.(\w+)", text))
    assert put_out == (set() if module == NAMES else set(outputs(NAMES)))


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
    text = (TERRAFORM / "examples" / example / "main.tf").read_text()
    assert set(re.findall(r"module\.flashsale\.(\w+)", text)) == set(outputs(folder))


HAS_TERRAFORM = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed"
)


def terraform(*arguments: str, folder: Path = TERRAFORM) -> str:
    """Run it, and answer what it prints."""
    done = subprocess.run(
        ["terraform", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@HAS_TERRAFORM
def test_terraform_would_format_nothing() -> None:
    """As its own formatter writes it."""
    terraform("fmt", "-check", "-diff", "-recursive")


@HAS_TERRAFORM
def test_terraform_itself_reads_the_same_names_and_rights(tmp_path: Path) -> None:
    """Their module needs no provider, so that it can be applied anywhere."""
    folder = tmp_path / NAMES.relative_to(ROOT)
    shutil.copytree(NAMES, folder)
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    terraform("init", "-input=false", folder=folder)
    terraform("apply", "-auto-approve", "-input=false", folder=folder)
    found = json.loads(terraform("output", "-json", folder=folder))
    keys = ("who", "kind", "name", "pattern", "operation")
    rights = {tuple(right[key].lower() for key in keys) for right in found["rights"]["value"]}
    assert rights == granted()
    assert found["settings"]["value"]["FLASHSALE_REQUESTS_TOPIC"] == Settings().requests_topic
    topics = found["topics"]["value"]
    assert {one["retention.ms"] for one in topics.values()} == {str(RETENTION_MS_MIN)}
    schemas = found["schemas"]["value"]
    for subject, schema in schemas.items():
        assert schema == (ROOT / "schemas" / f"{subject}.avsc").read_text()


def without_resources(folder: Path, target: Path) -> Path:
    """Copy the modules with all that needs a provider taken out of one; answer that one."""
    shutil.copytree(folder.parent, target / folder.parent.relative_to(ROOT))
    shutil.copytree(ROOT / "schemas", target / "schemas")
    copied = target / folder.relative_to(ROOT)
    (copied / "versions.tf").unlink()
    main, outputs_file = copied / "main.tf", copied / "outputs.tf"
    bare = re.sub(r"^resource .*?^}\n", "", main.read_text(), flags=re.MULTILINE | re.DOTALL)
    granted_to = (
        '{ for right in local.rights : "${right.who} ${right.operation} ${right.name}" => 1 }'
    )
    main.write_text(f'{bare}\noutput "granted" {{\n  value = keys({granted_to})\n}}\n')
    waiting = "  depends_on = [kafka_topic.all]\n"
    assert waiting in outputs_file.read_text()
    outputs_file.write_text(outputs_file.read_text().replace(waiting, ""))
    return copied


@HAS_TERRAFORM
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_SSL"])
def test_terraform_puts_out_settings_that_the_engine_starts_with(
    tmp_path: Path, protocol: str
) -> None:
    """By the engine's own loader; and one user may be two of those who work together."""
    folder = without_resources(TERRAFORM / "modules" / "kafka", tmp_path)
    given = {
        "bootstrap_servers": ["kafka-1.example:9092", "kafka-2.example:9092"],
        "security_protocol": protocol,
        "schema_registry_url": "https://registry.example",
        "principals": {"operator": "ops", "api": "ops", "others": ["shop", "ops"]},
    }
    (folder / "given.auto.tfvars.json").write_text(json.dumps(given))
    terraform("init", "-input=false", folder=folder)
    terraform("apply", "-auto-approve", "-input=false", folder=folder)
    found = {
        name: one["value"]
        for name, one in json.loads(terraform("output", "-json", folder=folder)).items()
    }
    more = {"gate_url": "redis://redis.example"}
    if protocol == "SASL_SSL":
        more |= {"kafka_username": "u", "kafka_password": "p"}
    settings = load_settings(
        Entrypoint.COMMAND,
        {
            variable.removeprefix("FLASHSALE_").lower(): value
            for variable, value in found["settings"].items()
        }
        | more,
    )
    assert settings.bus_url.text == f"kafka://{found['bootstrap_servers']}"
    assert settings.partitions == Settings().partitions
    assert (settings.kafka_sasl_mechanism is None) is (protocol == "PLAINTEXT")
    assert {"shop Read flashsale.orders", "ops Create flashsale."} <= set(found["granted"])
