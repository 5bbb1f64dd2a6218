"""Make the table of payments, and let an order be PENDING_PAYMENT."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.TIMESTAMP(timezone=True).with_variant(sa.BigInteger(), "sqlite")
_STATUSES = "status IN ('PENDING_PAYMENT', 'CONFIRMED', 'REJECTED')"


def upgrade() -> None:
    """Widen the status; make the table."""
    if op.get_context().dialect.name == "sqlite":
        _rewrite_orders()
    else:
        op.drop_constraint("orders_status_known", "orders", type_="check")
        op.create_check_constraint("orders_status_known", "orders", _STATUSES)
    _payments()


def _rewrite_orders() -> None:
    """Write the table anew: SQLite cannot change a constraint."""
    op.rename_table("orders", "orders_before")
    op.drop_index("orders_by_user")
    op.drop_index("orders_by_purchase")
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
        sa.CheckConstraint("quantity BETWEEN 1 AND 2147483647", name="orders_quantity_in_range"),
        sa.CheckConstraint("source IN ('WEB', 'MOBILE', 'API')", name="orders_source_known"),
        sa.CheckConstraint("door IN ('http', 'outside', 'accepted')", name="orders_door_known"),
        sa.CheckConstraint(_STATUSES, name="orders_status_known"),
        sa.CheckConstraint(
            "(status = 'REJECTED') = (reason IS NOT NULL)", name="orders_rejected_has_reason"
        ),
        sa.CheckConstraint(
            "(unit_price_minor IS NULL) = (currency IS NULL)", name="orders_price_has_currency"
        ),
    )
    op.execute("INSERT INTO orders SELECT * FROM orders_before")
    op.drop_table("orders_before")
    op.create_index("orders_by_user", "orders", ["user_id"])
    op.create_index("orders_by_purchase", "orders", ["purchase_id"])


def _payments() -> None:
    # What is charged stands in the order's row alone: its price times its quantity.
    op.create_table(
        "payments",
        sa.Column("sale_id", sa.Text, nullable=False),
        sa.Column("purchase_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("payment_token", sa.Text, comment="erased when the payment is final"),
        sa.Column("traceparent", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("asked_since", _TIME),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("leased_until", _TIME),
        sa.Column("reference", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("made_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sale_id", "purchase_id", name="payments_pkey"),
        sa.CheckConstraint(
            "state IN ('PENDING', 'FLAGGED', 'CHARGED', 'DECLINED')", name="payments_state_known"
        ),
        sa.CheckConstraint("attempt >= 0", name="payments_attempt_not_negative"),
        sa.CheckConstraint(
            "(attempt > 0) = (asked_since IS NOT NULL)", name="payments_asked_since_first_claim"
        ),
        sa.CheckConstraint(
            "(state = 'CHARGED') = (reference IS NOT NULL)", name="payments_charged_has_reference"
        ),
        sa.CheckConstraint(
            "state IN ('PENDING', 'FLAGGED') OR payment_token IS NULL",
            name="payments_final_has_no_token",
        ),
    )
    for name, column, states in (
        ("payments_due", "due_at", "('PENDING')"),
        ("payments_open", "made_at", "('PENDING', 'FLAGGED')"),
    ):
        where = sa.text(f"state IN {states}")
        op.create_index(name, "payments", [column], postgresql_where=where, sqlite_where=where)
