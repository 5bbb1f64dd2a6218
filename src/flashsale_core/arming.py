"""How a sale's gate comes to life: from the database's books alone, compared before it may sell."""

from collections import Counter

from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import GateRecord, PurchaseState, Sale, SaleId, SaleState
from flashsale_core.ports import GateBooks, SaleBooks, SaleCatalogue, StockGate

LOAD_CHUNK = 1_000
"""Records put into the gate by one call: short enough that a single-threaded gate stays quick."""
LOADS_MAX = 5
"""Tries to load one life: others may take a load over once each before they learn that it is not
theirs, and a gate that restarts again and again is not one to sell from."""


def expected_books(books: SaleBooks) -> GateBooks:
    """Work out what the gate must hold after the load; `available` may be ≤ 0: sold out."""
    units: Counter[PurchaseState] = Counter()
    for record in books.records:
        units[record.state] += record.quantity
    holding = [record for record in books.records if record.state is not PurchaseState.ENDED]
    queued = [record for record in holding if record.state is PurchaseState.QUEUED]
    initial, limit = books.sale.terms.units, books.sale.terms.per_user_limit
    return GateBooks(
        state=books.sale.state,
        initial=initial,
        available=initial - units[PurchaseState.SOLD] - units[PurchaseState.QUEUED],
        reserved=0,
        outside=0,
        queued=units[PurchaseState.QUEUED],
        sold=units[PurchaseState.SOLD],
        records=len(books.records),
        users=0 if limit is None else len({record.user_id for record in holding}),
        journal=len(queued),
    )


async def arm_from_database(catalogue: SaleCatalogue, gate: StockGate, sale: Sale) -> Sale:
    """Load the sale's gate from its rows and arm it; harmless when it is armed already.

    The gate is asked first: while it is away, nothing has been said in the database. Reading the
    books sets `armed_epoch`, and one caller alone can do that for an epoch; so from there on only
    this epoch's promises count, and only another life of the gate may be loaded again.

    Raises Unavailable, StaleEpoch when somebody else loads this epoch or began another, or
    Corrupt("books-differ") when the gate did not take what it was given.
    """
    token = await gate.begin_load(sale.sale_id, sale.epoch, sale.terms, sale.state)
    if token is None:
        return sale
    books = await catalogue.books(sale.sale_id, sale.epoch)
    tries = 1
    while token is not None:
        try:
            await _load(gate, books, token)
        except Unavailable as taken_over:
            # By one who does not know yet that it may not load, or Redis began anew meanwhile.
            if taken_over.why is not Why.NOT_ARMED or tries == LOADS_MAX:
                raise
            tries += 1
            token = await gate.begin_load(sale.sale_id, sale.epoch, sale.terms, sale.state)
        else:
            token = None
    return books.sale


async def _load(gate: StockGate, books: SaleBooks, token: str) -> None:
    sale_id = books.sale.sale_id
    for chunk in _chunks(books.records):
        await gate.load(sale_id, token, chunk)
    await gate.arm(sale_id, token, expected_books(books))


def _chunks(records: tuple[GateRecord, ...]) -> list[tuple[GateRecord, ...]]:
    return [records[at : at + LOAD_CHUNK] for at in range(0, len(records), LOAD_CHUNK)]


async def rebuild_stopped(catalogue: SaleCatalogue, gate: StockGate, sale_id: SaleId) -> Sale:
    """Begin another life of a sale's gate, while nobody else is at work.

    The caller guarantees that no process serves the sale and that nothing waits on the ACCEPTED
    channel: every promise is then in the database.
    """
    raised = await catalogue.raise_epoch(sale_id)
    await gate.disarm([(sale_id, raised.epoch)])
    return await resumable(catalogue, gate, await arm_from_database(catalogue, gate, raised))


async def resumable(catalogue: SaleCatalogue, gate: StockGate, sale: Sale) -> Sale:
    """Make of a HALTED sale whose books are right again a PAUSED one.

    They are right; an operator who knows why they were not resumes it.
    """
    if sale.state is not SaleState.HALTED:
        return sale
    sale = await catalogue.change_state(
        sale.sale_id, SaleState.PAUSED, expected=(SaleState.HALTED,)
    )
    await gate.set_state(sale.sale_id, sale.epoch, sale.state)
    return sale
