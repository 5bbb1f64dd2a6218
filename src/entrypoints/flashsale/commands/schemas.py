"""`flashsale schema`: our Avro schemas, here and in the schema registry."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flashsale.cli import EXIT_FAILED
from flashsale.commands.configured import command_settings, registry_config
from flashsale.commands.console import CommandFailed, Json, say, write_json, write_table

if TYPE_CHECKING:
    from flashsale_avro import Registration, RegistryConfig


def build() -> App:
    """Make the group of commands."""
    app = App(name="schema", help="Show, check and register the Avro schemas.")
    for command in (show, check, register):
        app.command(command)
    return app


def show(
    name: Annotated[str | None, Parameter(help="PurchaseRequest, OrderCreated and so on.")] = None,
    /,
) -> None:
    """Write a schema as it is registered; without a name, list them.

    Example: `flashsale schema show PurchaseRequest`
    """
    from flashsale_avro import schema_texts  # noqa: PLC0415 - an extra that a command may lack

    texts = {str(full): text for full, text in schema_texts().items()}
    if name is None:
        for full in texts:
            say(full)
        return
    found = [text for full, text in texts.items() if name in (full, full.rpartition(".")[2])]
    if not found:
        raise CommandFailed(f"no schema {name}; there are: {', '.join(texts)}")
    say(found[0].rstrip())


async def check(*, json: Json = False) -> int:
    """Tell how our schemas stand in the registry, and change nothing; exit code 1 if any lacks.

    Example: `flashsale schema check`
    """
    from flashsale_avro import check_schemas  # noqa: PLC0415 - an extra that a command may lack

    standings = await check_schemas(_registry())
    _print(standings, as_json=json)
    return 0 if all(one.schema_id is not None for one in standings) else EXIT_FAILED


async def register(*, json: Json = False) -> None:
    """Register what the registry lacks; running it again changes nothing.

    Example: `flashsale schema register`
    """
    from flashsale_avro import register_schemas  # noqa: PLC0415 - an extra that a command may lack

    _print(await register_schemas(_registry()), as_json=json)


def _registry() -> "RegistryConfig":
    config = registry_config(command_settings())
    if config is None:
        raise CommandFailed(
            "FLASHSALE_SCHEMA_REGISTRY_URL is not set; without a registry nothing is registered"
        )
    return config


def _print(standings: "list[Registration]", *, as_json: bool) -> None:
    rows = [(one.subject, one.schema_id, _word(one)) for one in standings]
    if as_json:
        write_json([{"subject": str(s), "id": i, "standing": word} for s, i, word in rows])
    else:
        write_table(("subject", "id", "standing"), rows)


def _word(one: "Registration") -> str:
    if one.schema_id is None:
        return "missing" if one.is_compatible else "missing, and not compatible"
    return "registered now" if one.is_new else "registered"
