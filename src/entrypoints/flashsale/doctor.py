"""Looks at everything that a sale needs, and says of each thing what would mend it."""

import asyncio
from collections.abc import Awaitable, Sequence

from flashsale.commands.configured import (
    bus_operator,
    database_operator,
    registry_config,
)
from flashsale.entry_points import AdapterMissing
from flashsale.opening import (
    gate_operator,
    opened_bus,
    opened_codec,
    opened_database,
    opened_gate,
    opened_payment,
)
from flashsale.settings import Entrypoint, Settings
from flashsale.settings_loading import SettingsError, load_settings
from flashsale_core.errors import FlashsaleError
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.occurrence import payment_key
from flashsale_core.operating import Finding, wrong

LOOK_S_MAX = 20.0
"""A broker that swallows connections must not hold the doctor for ever; each looks within 10 s."""


async def examine() -> list[Finding]:
    """Examine what the settings name, all side by side."""
    try:
        settings = load_settings(Entrypoint.COMMAND)
    except SettingsError as error:
        return [_wrong_setting(problem) for problem in error.problems]
    looks = (
        _look("gate", _gate(settings)),
        _look("bus", _bus(settings)),
        _look("database", _database(settings)),
        _look("registry", _registry(settings)),
        _look("payment", _payment(settings)),
    )
    found = await asyncio.gather(*looks)
    return [Finding(name="settings"), *(finding for several in found for finding in several)]


def _wrong_setting(problem: str) -> Finding:
    variable = problem.partition(":")[0]
    return wrong("settings", problem, f"correct {variable}; `flashsale settings --explain` has all")


async def _look(name: str, look: Awaitable[Sequence[Finding]]) -> Sequence[Finding]:
    """Look, within a time; whatever an adapter raises is a finding too."""
    setting = (
        f"FLASHSALE_{name.upper()}_URL" if name != "registry" else "FLASHSALE_SCHEMA_REGISTRY_URL"
    )
    try:
        async with asyncio.timeout(LOOK_S_MAX):
            return await look
    except TimeoutError:
        problem = f"no answer within {LOOK_S_MAX:g} s"
        return [wrong(f"{name} reachable", problem, f"start it, or correct {setting}")]
    except (AdapterMissing, FlashsaleError, ValueError, ImportError) as error:
        return [wrong(name, str(error), f"correct {setting}")]


async def _gate(settings: Settings) -> Sequence[Finding]:
    if settings.gate_url.is_memory:
        return [Finding(name="gate", said="in memory, inside `flashsale run`")]
    operator = gate_operator(settings)
    if operator is not None:
        return await operator.diagnose()
    from flashsale_memory.clock import SystemClock  # noqa: PLC0415 - a strange gate alone needs it

    async with opened_gate(settings, SystemClock(), may_install=False) as gate:
        await gate.check()
    return [Finding(name="gate", said=f"{settings.gate_url.scheme}:// answers")]


async def _bus(settings: Settings) -> Sequence[Finding]:
    if settings.bus_url.is_memory:
        return [Finding(name="bus", said="in memory, inside `flashsale run`")]
    operator = await bus_operator(settings)
    if operator is not None:
        return await operator.diagnose()
    async with opened_codec(settings) as codec, opened_bus(settings, codec) as bus:
        await bus.check()
    return [Finding(name="bus", said=f"{settings.bus_url.scheme}:// answers")]


async def _database(settings: Settings) -> Sequence[Finding]:
    operator = database_operator(settings)
    if operator is not None:
        return await operator.diagnose()
    async with opened_database(settings) as database:
        await database.check()
    return [Finding(name="database", said=f"{settings.database_url.scheme}:// answers")]


async def _registry(settings: Settings) -> Sequence[Finding]:
    config = registry_config(settings) if settings.schema_registry_url is not None else None
    if config is None:
        said = "none: messages are written in Avro's single-object encoding"
        return [Finding(name="registry", said=said)]
    from flashsale_avro.operating import diagnose_registry  # noqa: PLC0415 - an extra

    return await diagnose_registry(config)


async def _payment(settings: Settings) -> Sequence[Finding]:
    async with opened_payment(settings) as gateway:
        if gateway is None:
            return []  # Nothing is needed where nothing is paid for.
        # Of no sale: it is looked up, and charges nobody.
        await gateway.look_up(payment_key(SaleId("doctor.0"), PurchaseId("doctor")))
    return [Finding(name="payment", said="the gateway answers a look-up")]
