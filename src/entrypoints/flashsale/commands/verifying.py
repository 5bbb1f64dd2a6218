"""`flashsale gate verify`: whether the gate holds what the database holds."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from flashsale.cli import EXIT_FAILED
from flashsale.commands.configured import command_settings, opened_commands
from flashsale.commands.console import CommandFailed, Json, say, write_json, write_table
from flashsale.commands.desk import Shown
from flashsale.settings import Settings
from flashsale_core.reconciliation import SIGHTINGS, Comparison, Drift

COMPARED = (
    *("saleId", "epoch", "rows", "soldInDatabase", "soldInGate", "inFlight", "drifts", "problem"),
)
VERIFY_PAUSE_MS = 1_000
NO_SALE = "no unsettled sale: flashsale sale create --item 1 --stock 1000"


def gate_settings() -> Settings:
    """Read the settings of a command that needs a gate outside of `flashsale run`."""
    settings = command_settings()
    if settings.gate_url.is_memory:
        raise CommandFailed(
            "FLASHSALE_GATE_URL is memory://: its books live inside `flashsale run`, which loads "
            "them at its start; look at them with `flashsale sale list`"
        )
    return settings


async def verify(
    *,
    pause_ms: Annotated[
        int, Parameter(help="Between two of the three looks; longer than a batch takes.")
    ] = VERIFY_PAUSE_MS,
    json: Json = False,
) -> int:
    """Compare gate and database, purchase by purchase; exit code 1 when they disagree.

    Safe while the sale runs: what differs is looked at three times. Changes nothing.

    Example: `flashsale gate verify`
    """
    async with opened_commands(gate_settings()) as container:
        reconciler = container.reconciler()
        for _ in range(SIGHTINGS - 1):
            await reconciler.compare()
            await container.sleep_ms()(pause_ms)
        compared = await reconciler.compare()
    _print_compared(compared, as_json=json)
    agree = all(one.gate is not None and not one.certain for one in compared)
    return 0 if agree else EXIT_FAILED


def _print_compared(compared: Sequence[Comparison], *, as_json: bool) -> None:
    drifts = [drift for one in compared for drift in one.certain]
    if as_json:
        write_json(
            {
                "sales": [_compared(one) for one in compared],
                "drifts": [_drift(drift) for drift in drifts],
            }
        )
        return
    if not compared:
        say(NO_SALE)
        return
    rows = [_compared(one) for one in compared]
    write_table(COMPARED, [[row[name] for name in COMPARED] for row in rows])
    if drifts:
        named = [_drift(drift) for drift in drifts]
        write_table(tuple(named[0]), [tuple(one.values()) for one in named])
        say("the books are put right by: flashsale gate rebuild SALE")


def _compared(one: Comparison) -> Shown:
    gate = one.gate
    return {
        "saleId": one.sale.sale_id,
        "epoch": one.sale.epoch,
        "rows": one.database.records,
        "soldInDatabase": one.database.sold,
        "soldInGate": gate.sold if gate is not None else None,
        "inFlight": gate.reserved + gate.outside + gate.queued if gate is not None else None,
        "drifts": len(one.certain),
        "problem": one.problem,
    }


def _drift(drift: Drift) -> dict[str, object]:
    return {
        "saleId": drift.sale_id,
        "purchaseId": drift.purchase_id,
        "units": drift.units,
        "kind": drift.kind.value,
    }
