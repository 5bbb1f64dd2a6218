"""What really differs between the two databases, declared once; all else is one code path."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import attrs
from sqlalchemy import TextClause, text

from flashsale_core.errors import Corrupt
from flashsale_core.model import PurchaseId, SaleId

Rows = Sequence[tuple[object, ...]]


@attrs.frozen(kw_only=True)
class Dialect:
    """One database's ways.

    `name` is SQLAlchemy's, and the folder of the statements.
    """

    name: str
    driver_url: str
    """How a URL of it begins."""
    locks_rows: bool
    """Rows are locked one by one, and locked ones can be skipped; else one writer locks it all."""
    has_advisory_locks: bool
    """Names can be locked; where there is one writer at a time, nobody needs to."""
    as_parameters: Callable[[Sequence[str], Rows], Mapping[str, object]]
    """Hand a whole table to one statement: a parameter a column, or one that holds all rows."""
    keys_of: Callable[[Iterable[Any]], set[tuple[SaleId, PurchaseId]]]
    """Read the keys that `insert_orders` returns: a row each, or a row of many for each sale."""

    def statement(self, name: str) -> TextClause:
        """Read one of the package's SQL files."""
        path = files("flashsale_sql").joinpath("statements", self.name, f"{name}.sql")
        lines = path.read_text(encoding="utf-8").splitlines()
        # A parameter's name in a comment would be taken for a parameter.
        return text("\n".join(line for line in lines if not line.lstrip().startswith("--")))


def _arrays(columns: Sequence[str], rows: Rows) -> Mapping[str, object]:
    return dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))


def _document(_columns: Sequence[str], rows: Rows) -> Mapping[str, object]:
    # Not ASCII alone: an escaped half of a surrogate pair would be stored, and never read again.
    document = json.dumps(rows, separators=(",", ":"), ensure_ascii=False)
    # SQLite would cut the text there and say nothing; PostgreSQL refuses it by itself.
    if "\\u0000" in document:
        raise Corrupt("unstorable", "a text holds NUL, which a database does not store")
    return {"rows": document}


def _keys_by_sale(rows: Iterable[Any]) -> set[tuple[SaleId, PurchaseId]]:
    return {(sale_id, purchase_id) for sale_id, ids in rows for purchase_id in ids}


def _keys_by_row(rows: Iterable[Any]) -> set[tuple[SaleId, PurchaseId]]:
    return {(sale_id, purchase_id) for sale_id, purchase_id in rows}


POSTGRESQL = Dialect(
    name="postgresql",
    driver_url="postgresql+asyncpg://",
    locks_rows=True,
    has_advisory_locks=True,
    as_parameters=_arrays,
    keys_of=_keys_by_sale,
)
SQLITE = Dialect(
    name="sqlite",
    driver_url="sqlite+aiosqlite://",
    locks_rows=False,
    has_advisory_locks=False,
    as_parameters=_document,
    keys_of=_keys_by_row,
)


def item_key(item_id: str) -> int:
    """Name an item's advisory lock: 64 bits, the same in every process and version."""
    digest = blake2b(item_id.encode(), digest_size=8, person=b"flashsale-item").digest()
    return int.from_bytes(digest, "big", signed=True)
