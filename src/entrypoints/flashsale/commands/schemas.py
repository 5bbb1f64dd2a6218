"""`flashsale schema`: our Avro schemas and the document of all messages, here and in a registry."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flashsale.cli import EXIT_FAILED
from flashsale.commands.configured import command_settings, registry_config
from flashsale.commands.console import (
    CommandFailed,
    Json,
    complain,
    say,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from flashsale_avro import Registration, RegistryConfig


def build() -> App:
    """Make the group of commands."""
    app = App(name="schema", help="Show, check and register the Avro schemas.")
    for command in (show, check, register, asyncapi):
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
    """Compare our schemas with every released one, and with the registry where one is set.

    Changes nothing. Exit code 1 if a change breaks a promise, or if the registry lacks a schema.

    Example: `flashsale schema check`
    """
    from flashsale_avro import check_schemas  # noqa: PLC0415 - an extra that a command may lack
    from flashsale_avro.compatibility import schema_breaches  # noqa: PLC0415 - the same
    from flashsale_avro.schema_files import released_texts  # noqa: PLC0415 - the same

    registry = registry_config(command_settings())
    broken = schema_breaches()
    standings = None if registry is None else await check_schemas(registry)
    if json:
        told = {"releases": list(released_texts()), "broken": [str(one) for one in broken]}
        write_json({**told, "registry": None if standings is None else _rows(standings)})
    else:
        for one in broken:
            complain(str(one))
        if not broken:
            say(f"compatible with every release: {', '.join(released_texts()) or 'there is none'}")
        if standings is not None:
            _print(standings, as_json=False)
    lacks = any(one.schema_id is None for one in standings or ())
    return EXIT_FAILED if broken or lacks else 0


async def register(*, json: Json = False) -> None:
    """Register what the registry lacks; running it again changes nothing.

    Example: `flashsale schema register`
    """
    from flashsale_avro import register_schemas  # noqa: PLC0415 - an extra that a command may lack

    _print(await register_schemas(_registry()), as_json=json)


async def asyncapi() -> None:
    """Write the AsyncAPI document of this installation: channels, messages, schemas, headers.

    Names of topics, queues and groups are those that are set.

    Example: `flashsale schema asyncapi`
    """
    from flashsale.asyncapi import document_of  # noqa: PLC0415 - it needs both buses' extras

    write_json(await document_of(command_settings()))


def _registry() -> "RegistryConfig":
    config = registry_config(command_settings())
    if config is None:
        raise CommandFailed(
            "FLASHSALE_SCHEMA_REGISTRY_URL is not set; without a registry nothing is registered"
        )
    return config


def _print(standings: "list[Registration]", *, as_json: bool) -> None:
    if as_json:
        write_json(_rows(standings))
    else:
        rows = [(one.subject, one.schema_id, _word(one)) for one in standings]
        write_table(("subject", "id", "standing"), rows)


def _rows(standings: "list[Registration]") -> list[dict[str, object]]:
    return [
        {"subject": str(one.subject), "id": one.schema_id, "standing": _word(one)}
        for one in standings
    ]


def _word(one: "Registration") -> str:
    if one.schema_id is None:
        return "missing" if one.is_compatible else "missing, and not compatible"
    return "registered now" if one.is_new else "registered"
