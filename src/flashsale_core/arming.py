"""How a sale's gate comes to life: from the database's books alone, compared before it may sell."""

from collections import Counter

from flashsale_core.errors import StaleEpoch
from flashsale_core.model import GateRecord, PurchaseState, Sale, SaleId, SaleState
from flashsale_core.ports import GateBooks, SaleBooks, SaleCatalogue, StockGate

LOAD_CHUNK = 1_000
"""Records put into the gate by one call: short enough that a single-threaded gate stays quick."""


def expected_books(books: SaleBooks) -> GateBooks:
    """Work out what the gate must hold after the load; `available` may be ≤ 0: sold out."""
    units: Counter[PurchaseState] = Counter()
    for record in books.records:
        units[record.state] += record.quantity
    holding = [record for record in books.records if record.state is not PurchaseState.ENDED]
    queued = [record for record in holding if record.state is PurchaseState.QUEUED]
    initial = books.sale.terms.units
    return GateBooks(
        state=books.sale.state,
        initial=initial,
        available=initial - units[PurchaseState.SOLD] - units[PurchaseState.QUEUED],
        reserved=0,
        outside=0,
        queued=units[PurchaseState.QUEUED],
        sold=units[PurchaseState.SOLD],
        records=len(books.records),
        users=len({record.user_id for record in holding}),
        journal=len(queued),
    )


async def arm_from_database(catalogue: SaleCatalogue, gate: StockGate, sale: Sale) -> Sale:
    """Load the sale's gate from its rows and arm it; harmless when it is armed already.

    The gate is asked first: while it is away, nothing has been said in the database. Reading the
    books sets `armed_epoch`, so from there on only this epoch's promises count, and only a rebuild
    may load the gate again.

    Raises Unavailable, StaleEpoch when somebody began another life of the gate meanwhile, or
    Corrupt("books-differ") when the gate did not take what it was given.
    """
    token = await gate.begin_load(sale.sale_id, sale.epoch, sale.terms, sale.state)
    if token is None:
        return sale
    books = await catalogue.books(sale.sale_id)
    if books.sale.epoch != sale.epoch:
        raise StaleEpoch(f"{sale.sale_id}: epoch {books.sale.epoch}, not {sale.epoch}")
    for chunk in _chunks(books.records):
        await gate.load(sale.sale_id, token, chunk)
    await gate.arm(sale.sale_id, token, expected_books(books))
    return books.sale


def _chunks(records: tuple[GateRecord, ...]) -> list[tuple[GateRecord, ...]]:
    return [records[at : at + LOAD_CHUNK] for at in range(0, len(records), LOAD_CHUNK)]


async def rebuild_stopped(catalogue: SaleCatalogue, gate: StockGate, sale_id: SaleId) -> Sale:
    """Begin another life of a sale's gate, while nobody else is at work.

    The caller guarantees that no process serves the sale and that nothing waits on the ACCEPTED
    channel: every promise is then in the database. A sale that was HALTED is PAUSED afterwards:
    its books are right again, and an operator who knows why they were not resumes it.
    """
    raised = await catalogue.raise_epoch(sale_id)
    sale = await arm_from_database(catalogue, gate, raised)
    if sale.state is SaleState.HALTED:
        sale = await catalogue.change_state(sale_id, SaleState.PAUSED, expected=(SaleState.HALTED,))
        await gate.set_state(sale_id, sale.epoch, sale.state)
    return sale
