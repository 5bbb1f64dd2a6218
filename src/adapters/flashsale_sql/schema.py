"""The tables as statements see them. Constraints and indexes stand in the migrations alone.

Times are `timestamptz` in PostgreSQL, where a person reads them at two in the morning, and integer
milliseconds in SQLite, which has no such type; Python sees integer milliseconds of both.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import literal
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_HALF = timedelta(microseconds=500)


class Timestamp(TypeDecorator[int]):
    """A moment, as integer milliseconds of UTC since 1970."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the database's own type."""
        own = TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger()
        return dialect.type_descriptor(own)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Turn milliseconds into what the driver takes."""
        if value is None or dialect.name != "postgresql":
            return value
        return _EPOCH + value * _MILLISECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """Turn the driver's value into milliseconds; rounded, as statements add in doubles."""
        if value is None or dialect.name != "postgresql":
            return value  # type: ignore[no-any-return]
        return (value - _EPOCH + _HALF) // _MILLISECOND  # type: ignore[no-any-return]


class now(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """The database's clock, the only one that rows are dated by, in whole milliseconds."""

    type = Timestamp()
    inherit_cache = True
    name = "flashsale_now"


class from_now(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """The database's clock plus so many milliseconds."""

    type = Timestamp()
    inherit_cache = True
    name = "flashsale_from_now"

    def __init__(self, delay_ms: int) -> None:
        """Take the delay as a parameter of the statement."""
        super().__init__(literal(delay_ms, BigInteger()))


_POSTGRESQL_NOW = "date_trunc('milliseconds', now())"
_SQLITE_NOW = "cast(round((julianday('now') - 2440587.5) * 86400000) as integer)"


@compiles(now, "postgresql")
def _now_in_postgresql(_element: now, _compiler: SQLCompiler, **_: object) -> str:
    return _POSTGRESQL_NOW


@compiles(now, "sqlite")
def _now_in_sqlite(_element: now, _compiler: SQLCompiler, **_: object) -> str:
    return _SQLITE_NOW


@compiles(from_now, "postgresql")
def _from_now_in_postgresql(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({_POSTGRESQL_NOW} + {_delay(element, compiler, kw)} * interval '1 millisecond')"


@compiles(from_now, "sqlite")
def _from_now_in_sqlite(element: from_now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({_SQLITE_NOW} + {_delay(element, compiler, kw)})"


def _delay(element: from_now, compiler: SQLCompiler, kw: dict[str, Any]) -> str:
    [delay] = element.clauses
    return compiler.process(delay, **kw)


def _text(name: str) -> "Column[str]":
    return Column(name, Text, nullable=False)


def _maybe_text(name: str) -> "Column[str]":
    return Column(name, Text)


def _whole(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


def _time(name: str) -> "Column[int]":
    return Column(name, Timestamp, nullable=False)


def _maybe_time(name: str) -> "Column[int]":
    return Column(name, Timestamp)


METADATA = MetaData()

sales = Table(
    "sales",
    METADATA,
    Column("sale_id", Text, primary_key=True),
    _text("item_id"),
    Column("round", Integer, nullable=False),
    _text("state"),
    _whole("initial"),
    _whole("available"),
    _whole("pending"),
    _whole("sold"),
    Column("per_user_limit", BigInteger),
    _maybe_time("opens_at"),
    _maybe_time("closes_at"),
    Column("unit_price_minor", BigInteger),
    _maybe_text("currency"),
    _whole("epoch"),
    _whole("armed_epoch"),
    _time("created_at"),
    _time("state_since"),
)

orders = Table(
    "orders",
    METADATA,
    Column("sale_id", Text, primary_key=True),
    Column("purchase_id", Text, primary_key=True),
    _text("item_id"),
    _text("user_id"),
    Column("unit_price_minor", BigInteger),
    _maybe_text("currency"),
    Column("quantity", Integer, nullable=False),
    _text("source"),
    _maybe_text("event_id"),
    _text("door"),
    _time("requested_at"),
    _maybe_time("accepted_at"),
    _time("recorded_at"),
    _text("status"),
    _maybe_text("reason"),
)

outbox = Table(
    "outbox",
    METADATA,
    Column("outbox_id", BigInteger, primary_key=True),
    _text("occurrence_id"),
    Column("fact", JSON, nullable=False),
    _time("written_at"),
    _maybe_time("claimed_until"),
)

payments = Table(
    "payments",
    METADATA,
    Column("sale_id", Text, primary_key=True),
    Column("purchase_id", Text, primary_key=True),
    _text("state"),
    _maybe_text("payment_token"),
    _maybe_text("traceparent"),
    Column("attempt", Integer, nullable=False),
    _maybe_time("asked_since"),
    _time("due_at"),
    _maybe_time("leased_until"),
    _maybe_text("reference"),
    _text("detail"),
    _time("made_at"),
    _time("changed_at"),
)

parked_messages = Table(
    "parked_messages",
    METADATA,
    Column("parked_id", BigInteger, primary_key=True),
    _text("origin"),
    _text("channel"),
    Column("partition", Integer, nullable=False),
    Column("body", LargeBinary),
    Column("key", LargeBinary),
    Column("headers", JSON, nullable=False),
    _maybe_text("content_type"),
    _maybe_time("written_at"),
    _text("status"),
    _text("reason"),
    _text("detail"),
    _maybe_text("sale_id"),
    _maybe_text("purchase_id"),
    Column("holds_unit", Boolean, nullable=False),
    _maybe_text("user_id"),
    Column("quantity", Integer),
    Column("attempts", Integer, nullable=False),
    _maybe_time("next_attempt_at"),
    _time("parked_at"),
    _time("changed_at"),
)

barriers = Table(
    "barriers",
    METADATA,
    Column("rebuild_id", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    _time("passed_at"),
)

parked_trail = Table(
    "parked_trail",
    METADATA,
    Column("entry_id", BigInteger, primary_key=True),
    _whole("parked_id"),
    _text("act"),
    _text("who"),
    _text("why"),
    _time("done_at"),
)

handling_notes = Table(
    "handling_notes",
    METADATA,
    Column("message_key", Text, primary_key=True),
    Column("life", Text, primary_key=True),
    _time("noted_at"),
)

revision = Table("flashsale_revision", METADATA, Column("version_num", Text, primary_key=True))
"""Alembic's own note; named ours, so that another application may share the database."""
