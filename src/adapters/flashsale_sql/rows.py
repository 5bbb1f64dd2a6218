"""Rows as the values that they are."""

from sqlalchemy import RowMapping

from flashsale_core.model import Door, Order, OrderStatus, Source


def order_of(row: RowMapping) -> Order:
    """Read a row of the table `orders`."""
    return Order(
        sale_id=row["sale_id"],
        purchase_id=row["purchase_id"],
        item_id=row["item_id"],
        user_id=row["user_id"],
        quantity=row["quantity"],
        unit_price_minor=row["unit_price_minor"],
        currency=row["currency"],
        source=Source(row["source"]),
        event_id=row["event_id"],
        door=Door(row["door"]),
        requested_at_ms=row["requested_at"],
        accepted_at_ms=row["accepted_at"] or 0,
        recorded_at_ms=row["recorded_at"],
        status=OrderStatus(row["status"]),
        reason=row["reason"],
    )
