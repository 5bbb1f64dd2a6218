"""Orders, sales, outbox and parked messages in PostgreSQL or SQLite, behind one code path."""

from flashsale_sql.database import SqlDatabase, open_database
from flashsale_sql.migrate import current_revision, upgrade, upgrade_sql

__all__ = ["SqlDatabase", "current_revision", "open_database", "upgrade", "upgrade_sql"]
