"""Which rights a role has on our tables, and which it lacks for the work that it seems to do."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from flashsale_core.operating import Finding, wrong

READ = {
    f"select {table}": (table, "SELECT")
    for table in (
        "sales",
        "orders",
        "outbox",
        "payments",
        "parked_messages",
        "parked_trail",
        "barriers",
        "handling_notes",
        "flashsale_revision",
    )
}
WRITE = {
    f"{right.lower()} {table}": (table, right)
    for table in ("sales", "orders", "outbox", "parked_messages", "parked_trail")
    for right in ("INSERT", "UPDATE")
}
"""What the HTTP API needs, for opening sales and ending parked purchases."""
WORK = {
    f"{right.lower()} {table}": (table, right)
    for table in ("payments", "barriers", "handling_notes")
    for right in ("INSERT", "UPDATE", "DELETE")
} | {"delete outbox": ("outbox", "DELETE")}
"""What a worker needs further. Whoever has none of it is no worker."""

HELD = text(
    "select "
    + ", ".join(
        f"has_table_privilege('{table}', '{right}') as \"{name}\""
        for name, (table, right) in {**READ, **WRITE, **WORK}.items()
    )
)


def rights_of(held: Mapping[Any, Any]) -> Finding:
    """Name what is lacking."""
    name = "database rights"
    is_worker = any(held[right] for right in WORK)
    needed = {**READ, **WRITE, **(WORK if is_worker else {})}
    lacking = [right for right in needed if not held[right]]
    if not lacking:
        return Finding(name=name, said="a worker's" if is_worker else "the HTTP API's")
    grants = "; ".join(f"GRANT {needed[one][1]} ON {needed[one][0]} TO <user>" for one in lacking)
    return wrong(name, f"this user may not {', '.join(lacking)}", grants)
