"""What the settings name, opened for one command."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from flashsale import opening
from flashsale.commands.console import CommandFailed
from flashsale.entry_points import Group, opener, schemes
from flashsale.opening import opened_bus, opened_codec, opened_database, opened_gate
from flashsale.settings import Entrypoint, Settings, secrets_of
from flashsale.settings_loading import load_settings
from flashsale_core.operating import BusOperator, DatabaseOperator

if TYPE_CHECKING:
    from flashsale.container import Commands
    from flashsale_avro import RegistryConfig


def command_settings() -> Settings:
    """Read the settings as a command needs them. Raises SettingsError."""
    return load_settings(Entrypoint.COMMAND)


@asynccontextmanager
async def opened_commands(
    settings: Settings, *, with_bus: bool = False
) -> AsyncIterator["Commands"]:
    """Open gate and database, and hand them to the container; the list of sales is read.

    With the bus only where a command publishes: most need no broker.
    """
    # Here and not above: what the container imports is not needed to say what is installed.
    from flashsale.container import Commands  # noqa: PLC0415 - see above
    from flashsale.logs import set_up_logging  # noqa: PLC0415 - see above
    from flashsale_memory.clock import SystemClock  # noqa: PLC0415 - see above

    # A command's own answer is what it prints; alarms go to the person, not into a pipe.
    set_up_logging("warning", secrets=secrets_of(settings))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_database(settings))
        gate = await stack.enter_async_context(
            opened_gate(settings, SystemClock(), may_install=False)
        )
        container = Commands(settings=settings, gate=gate, database=database)
        if with_bus:
            codec = await stack.enter_async_context(opened_codec(settings))
            container.bus.override(await stack.enter_async_context(opened_bus(settings, codec)))
        await container.board().refresh()
        yield container


async def bus_operator(settings: Settings) -> BusOperator | None:
    """Find who looks after the broker; None where nobody needs to."""
    if settings.bus_url.scheme not in schemes(Group.BUS_OPERATORS):
        return None
    # Nothing is decoded here, so no registry need be asked.
    without_registry = attrs.evolve(settings, schema_registry_url=None, schema_registry_auth=None)
    async with opened_codec(without_registry) as codec:
        return opening.bus_operator(settings, codec)


def database_operator(settings: Settings) -> DatabaseOperator | None:
    """Find who looks after the database; None where nobody needs to."""
    if settings.database_url.scheme not in schemes(Group.DATABASE_OPERATORS):
        return None
    operate = opener(Group.DATABASE_OPERATORS, settings.database_url)
    operator: DatabaseOperator = operate(settings.database_url.text)
    return operator


def registry_config(settings: Settings) -> "RegistryConfig | None":
    """Say where the schema registry is; None where there is none."""
    from flashsale_avro import RegistryConfig  # noqa: PLC0415 - an extra that a command may lack

    if settings.schema_registry_url is None:
        return None
    auth = settings.schema_registry_auth
    return RegistryConfig(
        url=settings.schema_registry_url.text,
        auth=auth.get_secret_value() if auth is not None else None,
    )


def nothing_to_do(setting: str, url: object) -> CommandFailed:
    """Say that what the setting names has nothing that this command could work on."""
    return CommandFailed(f"{setting} is {url}, which needs nothing of this kind")
