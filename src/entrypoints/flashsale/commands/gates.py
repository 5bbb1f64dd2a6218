"""`flashsale gate`: the gate's functions and books."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flashsale.cli import EXIT_FAILED
from flashsale.commands.configured import (
    bus_operator,
    command_settings,
    nothing_to_do,
    opened_commands,
)
from flashsale.commands.console import CommandFailed, Json, say, write_json, write_table
from flashsale.commands.desk import Shown, gate_json
from flashsale.commands.ids import SaleIdText
from flashsale.commands.verifying import gate_settings, verify
from flashsale.opening import gate_operator
from flashsale.settings import Settings
from flashsale_core.arming import expected_books, rebuild_stopped
from flashsale_core.errors import Conflict, Unavailable
from flashsale_core.model import Sale
from flashsale_core.operating import Backlog
from flashsale_core.ports import GateBooks, StockGate

if TYPE_CHECKING:
    from flashsale.container import Commands

STOPPED = "--yes-processes-are-stopped"
NOTHING_LOST = "nothing to do: every unsettled sale is armed"
EXPECTED = ("available", "sold", "promised")
COLUMNS = ("sale", "epoch", "available", "sold", "promised", "gate")


def build() -> App:
    """Make the group of commands."""
    app = App(name="gate", help="Install the gate's functions, look at its books, rebuild them.")
    for command in (install, show, verify, rebuild):
        app.command(command)
    return app


async def install() -> None:
    """Load the gate's function library into Redis; harmless when it is there.

    Example: `flashsale gate install`
    """
    settings = command_settings()
    operator = gate_operator(settings)
    if operator is None:
        raise nothing_to_do("FLASHSALE_GATE_URL", settings.gate_url)
    say("installed" if await operator.install() else "nothing to do: it is installed already")


async def show(*, json: Json = False) -> int:
    """Show what the gate holds of every unsettled sale; exit code 1 when one is not armed.

    Example: `flashsale gate show`
    """
    async with opened_commands(gate_settings()) as container:
        sales = container.board().unsettled()
        keys = [(sale.sale_id, sale.epoch) for sale in sales]
        books = await container.gate().books(keys)
    found = [_row(sale, one) for sale, one in zip(sales, books, strict=True)]
    _print(found, as_json=json)
    return EXIT_FAILED if any(one["gate"] is None for one in found) else 0


async def rebuild(
    *sales: Annotated[
        SaleIdText, Parameter(help="Only these sales; by default every one not armed.")
    ],
    dry_run: Annotated[
        bool, Parameter(negative="", help="Show what the new books would be; change nothing.")
    ] = False,
    yes_processes_are_stopped: Annotated[
        bool,
        Parameter(
            name=STOPPED,
            negative="",
            show_default=False,
            help="Load at once, as no API and no worker runs and the accepted queue is empty.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Begin another life of these sales' gates, from the database's books.

    Workers do this by themselves for a gate that is lost; this is for one whose books are wrong,
    as after GATE_DRIFT. The processes go on: no purchase is taken for some seconds, and the
    workers drain what was promised. A sale that was HALTED is PAUSED afterwards.

    Example: `flashsale gate rebuild 1.1`
    """
    settings = gate_settings()
    if not dry_run:
        await _refuse_wrong_number_of_workers(settings, stopped=yes_processes_are_stopped)
    goes_on = not (dry_run or yes_processes_are_stopped)
    async with opened_commands(settings, with_bus=goes_on) as container:
        gate = container.gate()
        chosen = await _lost(gate, container.board().unsettled(), sales)
        if dry_run:
            _print_expected([await _expected(container, sale) for sale in chosen], as_json=json)
            return
        if yes_processes_are_stopped:
            for sale in chosen:
                await rebuild_stopped(container.catalogue(), gate, sale.sale_id)
            await container.board().refresh()
        elif chosen:
            await container.rebuild().replace([sale.sale_id for sale in chosen])
        wanted = {sale.sale_id for sale in chosen}
        now = [sale for sale in container.board().unsettled() if sale.sale_id in wanted]
        books = await gate.books([(sale.sale_id, sale.epoch) for sale in now])
    found = [_row(sale, one) for sale, one in zip(now, books, strict=True)]
    if found or json:
        _print(found, as_json=json)
    else:
        say(NOTHING_LOST)
    if any(one["gate"] is None for one in found):
        raise CommandFailed("not every gate came to life: see `flashsale gate show` and the log")


async def _expected(container: "Commands", sale: Sale) -> Shown:
    """Say what a rebuild would load now; what waits on the bus would come to it."""
    books = expected_books(await container.catalogue().read_books(sale.sale_id))
    [seen] = await container.gate().books([(sale.sale_id, sale.epoch)])
    lost = isinstance(seen, Unavailable)
    return {
        "saleId": sale.sale_id,
        "epoch": sale.epoch,
        "available": books.available,
        "sold": books.sold,
        "promised": books.queued,
        "gate": None if isinstance(seen, Unavailable) else gate_json(seen),
        "problem": str(seen) if lost else None,
    }


def _print_expected(found: Sequence[Shown], *, as_json: bool) -> None:
    if as_json:
        write_json({"sales": found})
    elif found:
        cells = [[one[name] for name in ("saleId", "epoch", *EXPECTED)] for one in found]
        write_table(("sale", "epoch", *EXPECTED), cells)
    else:
        say(NOTHING_LOST)


async def _refuse_wrong_number_of_workers(settings: Settings, *, stopped: bool) -> None:
    """Refuse what could not end, or could lose a promise that is on its way."""
    operator = await bus_operator(settings)
    if operator is None:
        return
    backlog = await operator.accepted_backlog()
    if stopped:
        _refuse_backlog(settings, backlog)
    elif not backlog.consumers:
        raise Conflict(
            "no-worker-runs",
            f"no worker takes from {settings.accepted_topic}, and what was promised must be "
            f"drained first: start a worker, or, with every process stopped, add {STOPPED}",
        )


def _refuse_backlog(settings: Settings, backlog: Backlog) -> None:
    """Refuse while a promise may still be on its way, or somebody is at work after all."""
    if backlog.consumers:
        workers = _counted(backlog.consumers, "consumer is", "consumers are")
        raise Conflict(
            "workers-run",
            f"{workers} still subscribed to {settings.accepted_topic}: stop every worker first "
            "(one that died is forgotten after some seconds)",
        )
    if backlog.messages:
        messages = _counted(backlog.messages, "message waits", "messages wait")
        raise Conflict(
            "accepted-not-empty",
            f"{messages} on {settings.accepted_topic}: let a worker drain them first, then stop it",
        )


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


async def _lost(gate: StockGate, unsettled: Sequence[Sale], named: Sequence[str]) -> list[Sale]:
    """Choose the named sales, else those that the gate does not know under their epoch."""
    unknown = sorted(set(named) - {sale.sale_id for sale in unsettled})
    if unknown:
        raise Conflict("unknown-sale", f"no unsettled sale {', '.join(unknown)}")
    if named:
        return [sale for sale in unsettled if sale.sale_id in named]
    books = await gate.books([(sale.sale_id, sale.epoch) for sale in unsettled])
    return [
        sale for sale, one in zip(unsettled, books, strict=True) if isinstance(one, Unavailable)
    ]


def _row(sale: Sale, books: GateBooks | Unavailable) -> Shown:
    away = isinstance(books, Unavailable)
    return {
        "saleId": sale.sale_id,
        "epoch": sale.epoch,
        "gate": None if isinstance(books, Unavailable) else gate_json(books),
        "problem": str(books) if away else None,
    }


def _print(found: Sequence[Shown], *, as_json: bool) -> None:
    if as_json:
        write_json({"sales": found})
    elif found:
        write_table(COLUMNS, [_cells(one) for one in found])
    else:
        say("no unsettled sale: flashsale sale create --item 1 --stock 1000")


def _cells(one: Shown) -> tuple[object, ...]:
    gate = one["gate"]
    if gate is None:
        return (one["saleId"], one["epoch"], None, None, None, one["problem"])
    promised = gate["reserved"] + gate["outside"] + gate["queued"]
    return (one["saleId"], one["epoch"], gate["available"], gate["sold"], promised, "armed")
