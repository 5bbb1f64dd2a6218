"""Make the tables of sales, orders, outbox and parked messages."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.TIMESTAMP(timezone=True).with_variant(sa.BigInteger(), "sqlite")
_NUMBERED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite numbers rows by itself only where the type is exactly INTEGER."""


def upgrade() -> None:
    """Make the tables."""
    _sales()
    _orders()
    _outbox()
    _parked_messages()


def _sales() -> None:
    op.create_table(
        "sales",
        sa.Column("sale_id", sa.Text, primary_key=True),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("initial", sa.BigInteger, nullable=False),
        sa.Column("available", sa.BigInteger, nullable=False),
        sa.Column("pending", sa.BigInteger, nullable=False),
        sa.Column("sold", sa.BigInteger, nullable=False),
        sa.Column("per_user_limit", sa.BigInteger),
        sa.Column("opens_at", _TIME),
        sa.Column("closes_at", _TIME),
        sa.Column("unit_price_minor", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("armed_epoch", sa.BigInteger, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("state_since", _TIME, nullable=False),
        sa.UniqueConstraint("item_id", "round", name="sales_item_round"),
        sa.CheckConstraint("sale_id = item_id || '.' || round", name="sales_id_names_item_round"),
        sa.CheckConstraint("round >= 1", name="sales_round_from_one"),
        sa.CheckConstraint(
            "state IN ('OPEN', 'PAUSED', 'CLOSED', 'HALTED', 'SETTLED')", name="sales_state_known"
        ),
        sa.CheckConstraint("initial >= 1", name="sales_initial_positive"),
        sa.CheckConstraint("available >= 0", name="sales_never_oversold"),
        sa.CheckConstraint("pending >= 0", name="sales_pending_not_negative"),
        sa.CheckConstraint("sold >= 0", name="sales_sold_not_negative"),
        sa.CheckConstraint("initial = available + pending + sold", name="sales_units_conserved"),
        sa.CheckConstraint("per_user_limit >= 1", name="sales_limit_positive"),
        sa.CheckConstraint("closes_at > opens_at", name="sales_closes_after_it_opens"),
        sa.CheckConstraint("unit_price_minor >= 0", name="sales_price_not_negative"),
        sa.CheckConstraint(
            "(unit_price_minor IS NULL) = (currency IS NULL)", name="sales_price_has_currency"
        ),
        sa.CheckConstraint("epoch >= 1", name="sales_epoch_from_one"),
        sa.CheckConstraint(
            "armed_epoch >= 0 AND armed_epoch <= epoch", name="sales_armed_epoch_was_an_epoch"
        ),
    )
    # An item is sold by at most one sale at a time: a request names the item, not the round.
    op.create_index(
        "sales_one_unsettled_per_item",
        "sales",
        ["item_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'SETTLED'"),
        sqlite_where=sa.text("state <> 'SETTLED'"),
    )


def _orders() -> None:
    # No foreign key to sales: round 0 (`9.0`) files what was asked of items that no sale knows,
    # and a key would lock the sale's row first in every batch, against the lock order.
    op.create_table(
        "orders",
        sa.Column("sale_id", sa.Text, nullable=False),
        sa.Column("purchase_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("unit_price_minor", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("accepted_at", _TIME),
        sa.Column("recorded_at", _TIME, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("sale_id", "purchase_id", name="orders_pkey"),
        # The upper end is PostgreSQL's own; SQLite's INTEGER would take anything.
        sa.CheckConstraint("quantity BETWEEN 1 AND 2147483647", name="orders_quantity_in_range"),
        sa.CheckConstraint("source IN ('WEB', 'MOBILE', 'API')", name="orders_source_known"),
        sa.CheckConstraint("door IN ('http', 'outside', 'accepted')", name="orders_door_known"),
        sa.CheckConstraint("status IN ('CONFIRMED', 'REJECTED')", name="orders_status_known"),
        sa.CheckConstraint(
            "(status = 'REJECTED') = (reason IS NOT NULL)", name="orders_rejected_has_reason"
        ),
        sa.CheckConstraint(
            "(unit_price_minor IS NULL) = (currency IS NULL)", name="orders_price_has_currency"
        ),
    )
    op.create_index("orders_by_user", "orders", ["user_id"])
    # A buyer asks by the purchase id alone.
    op.create_index("orders_by_purchase", "orders", ["purchase_id"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("outbox_id", _NUMBERED, sa.Identity(), primary_key=True),
        sa.Column("occurrence_id", sa.Text, nullable=False),
        sa.Column("fact", sa.JSON, nullable=False),
        sa.Column("written_at", _TIME, nullable=False),
        sa.Column(
            "claimed_until",
            _TIME,
            comment="used in SQLite alone, where a relay cannot hold rows by their locks",
        ),
        # A number that is used again would let a late relay delete a fact that nobody told.
        sqlite_autoincrement=True,
    )


def _parked_messages() -> None:
    op.create_table(
        "parked_messages",
        sa.Column("parked_id", _NUMBERED, sa.Identity(), primary_key=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.Column("key", sa.LargeBinary),
        sa.Column("headers", sa.JSON, nullable=False, comment="pairs of name and base64 value"),
        sa.Column("content_type", sa.Text),
        sa.Column("written_at", _TIME, comment="when the broker says it was written"),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("sale_id", sa.Text),
        sa.Column("purchase_id", sa.Text),
        sa.Column("holds_unit", sa.Boolean, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("quantity", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", _TIME),
        sa.Column("parked_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "channel IN ('requests', 'accepted', 'orders', 'dead-letters')",
            name="parked_channel_known",
        ),
        sa.CheckConstraint(
            "status IN ('WAITING', 'RETRYING', 'DEAD', 'REPLAYED', 'DISCARDED')",
            name="parked_status_known",
        ),
        sa.CheckConstraint(
            "(status IN ('WAITING', 'RETRYING')) = (next_attempt_at IS NOT NULL)",
            name="parked_due_while_alive",
        ),
        sa.CheckConstraint("attempts >= 0", name="parked_attempts_not_negative"),
        sqlite_autoincrement=True,
    )
    # One message may carry several purchases, each parked by itself; one that could not be read
    # carries none.
    op.create_index(
        "parked_once",
        "parked_messages",
        ["origin", sa.text("coalesce(purchase_id, '')")],
        unique=True,
    )
    op.create_index("parked_by_status", "parked_messages", ["status"])
    for name, column, statuses in (
        ("parked_due", "next_attempt_at", "('WAITING', 'RETRYING')"),
        ("parked_by_purchase", "purchase_id", "('WAITING', 'RETRYING', 'DEAD')"),
        ("parked_by_sale", "sale_id", "('WAITING', 'RETRYING', 'DEAD')"),
    ):
        where = sa.text(f"status IN {statuses}")
        op.create_index(
            name, "parked_messages", [column], postgresql_where=where, sqlite_where=where
        )
