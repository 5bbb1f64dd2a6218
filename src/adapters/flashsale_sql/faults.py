"""What a driver's error means: the one place where drivers' exceptions end.

Only what the content brought about is Corrupt. Whatever else a database says, nothing is wrong
with the messages in hand, so it is Unavailable, and a person can mend it while they wait.
"""

import sqlite3
from enum import Enum, auto

from sqlalchemy import exc

from flashsale_core.errors import Corrupt, FlashsaleError, Transient, Unavailable, Why

UPGRADE_HINT = "the tables are not what this version needs; run `flashsale db upgrade`"


class Fault(Enum):
    """Whose fault an error is."""

    TRANSIENT = auto()
    """The whole transaction may succeed when it is tried again at once."""
    AWAY = auto()
    SCHEMA = auto()
    CONTENT = auto()


SQLSTATE_CLASSES: dict[str, Fault] = {
    "01": Fault.AWAY,  # warning, raised by functions only
    "02": Fault.AWAY,  # no data, raised by functions only
    "03": Fault.AWAY,  # statement not complete
    "08": Fault.AWAY,  # connection exception
    "09": Fault.AWAY,  # triggered action: a trigger of the operator's own
    "0A": Fault.AWAY,  # feature not supported
    "0B": Fault.AWAY,  # invalid transaction initiation
    "0F": Fault.AWAY,  # locator exception
    "0L": Fault.AWAY,  # invalid grantor
    "0P": Fault.AWAY,  # invalid role
    "0Z": Fault.AWAY,  # diagnostics exception
    "10": Fault.AWAY,  # XQuery
    "20": Fault.AWAY,  # case not found
    "21": Fault.AWAY,  # cardinality violation
    "22": Fault.CONTENT,  # data exception: NUL in a text, a number out of range
    "23": Fault.CONTENT,  # integrity constraint violation
    "24": Fault.AWAY,  # invalid cursor state
    "25": Fault.AWAY,  # invalid transaction state: a standby after failover is read-only
    "26": Fault.AWAY,  # a prepared statement that pgbouncer lost
    "27": Fault.AWAY,  # triggered data change
    "28": Fault.AWAY,  # wrong password
    "2B": Fault.AWAY,  # dependent privileges
    "2D": Fault.AWAY,  # invalid transaction termination
    "2F": Fault.AWAY,  # SQL routine exception
    "34": Fault.AWAY,  # invalid cursor name
    "38": Fault.AWAY,  # external routine exception
    "39": Fault.AWAY,  # external routine invocation exception
    "3B": Fault.AWAY,  # savepoint exception
    "3D": Fault.AWAY,  # no such database
    "3F": Fault.SCHEMA,  # no such schema
    "40": Fault.TRANSIENT,  # transaction rollback: deadlock, serialization failure
    "42": Fault.SCHEMA,  # no such table or column; also a missing right
    "44": Fault.AWAY,  # a view's check option
    "53": Fault.AWAY,  # too many connections, disk full
    "54": Fault.AWAY,  # a limit of the server
    "55": Fault.AWAY,  # object not in prerequisite state
    "57": Fault.AWAY,  # shut down, or cancelled by statement_timeout
    "58": Fault.AWAY,  # disk trouble
    "72": Fault.AWAY,  # snapshot too old
    "F0": Fault.AWAY,  # wrong configuration file
    "HV": Fault.AWAY,  # foreign data wrapper
    "P0": Fault.AWAY,  # raised by a function of the operator's own
    "XX": Fault.AWAY,  # the server's own bugs and broken files
}
SQLSTATES: dict[str, Fault] = {
    "40002": Fault.CONTENT,  # a constraint that is checked at commit
    "40003": Fault.AWAY,  # statement completion unknown: trying again at once might do it twice
    "42501": Fault.AWAY,  # a right that is missing: an upgrade does not give it
    "55P03": Fault.TRANSIENT,  # lock_timeout
}
GOING = ("08", "57P")
"""The connection's end, and what a server says as it starts or stops."""
SQLITE_CODES: dict[int, Fault] = {
    sqlite3.SQLITE_ERROR: Fault.SCHEMA,  # no such table or column
    sqlite3.SQLITE_MISMATCH: Fault.CONTENT,
    sqlite3.SQLITE_TOOBIG: Fault.CONTENT,
    sqlite3.SQLITE_RANGE: Fault.CONTENT,
    sqlite3.SQLITE_CONSTRAINT: Fault.CONTENT,
}
"""All others are AWAY, busy too: the driver has waited for the lock already."""
PRIMARY_CODE = 0xFF
"""SQLite's extended codes carry the primary one in their low byte."""

DRIVER_ERRORS = (exc.SQLAlchemyError, OSError, TimeoutError, UnicodeError, OverflowError)


def translated(error: Exception, *, committing: bool) -> Exception:
    """Say in the core's words what an error of DRIVER_ERRORS means.

    While a commit is under way its outcome is unknown, unless the server says that it undid it.
    """
    detail = _detail(error)
    fault = fault_of(error)
    if fault is None:
        return error
    if fault is Fault.TRANSIENT:
        return Transient(Why.DATABASE_AWAY, detail)
    if fault is Fault.CONTENT:
        return Corrupt("unstorable", detail)
    if fault is Fault.SCHEMA:
        detail = f"{detail}; {UPGRADE_HINT}"
    return Unavailable(
        Why.DATABASE_AWAY,
        detail,
        may_have_happened=committing,
        was_refused=_was_refused(error),
    )


def _was_refused(error: Exception) -> bool:
    """Say whether the server answered, or was not asked because our own pool is exhausted."""
    if isinstance(error, exc.TimeoutError):
        return True
    sqlstate = getattr(error.orig, "sqlstate", None) if isinstance(error, exc.DBAPIError) else None
    return isinstance(sqlstate, str) and not sqlstate.startswith(GOING)


def fault_of(error: Exception) -> Fault | None:
    """Class an error; None for a mistake of this adapter's own, which must stay visible."""
    match error:
        case exc.DBAPIError():
            return _of_driver(error.orig)
        case exc.TimeoutError():
            return Fault.AWAY
        case exc.SQLAlchemyError() | FlashsaleError():
            return None
        case UnicodeError() | OverflowError():
            return Fault.CONTENT
        case _:
            return Fault.AWAY


def _of_driver(original: BaseException | None) -> Fault | None:
    sqlstate = getattr(original, "sqlstate", None)
    if isinstance(sqlstate, str):
        by_class = SQLSTATE_CLASSES.get(sqlstate[:2], Fault.AWAY)
        return SQLSTATES.get(sqlstate, by_class)
    if isinstance(original, sqlite3.ProgrammingError):
        return None
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", None)
        return SQLITE_CODES.get(code & PRIMARY_CODE, Fault.AWAY) if code else Fault.AWAY
    return Fault.AWAY


def _detail(error: Exception) -> str:
    """Take the driver's own sentence: SQLAlchemy's would add the statement."""
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    cause = original.__cause__ if original is not None else None
    # A deadline raises its TimeoutError from the cancellation that it ended the call by.
    if isinstance(original, TimeoutError) or isinstance(cause, TimeoutError):
        return "no answer in time"
    told = cause if isinstance(cause, Exception) else original
    return str(told) or type(told).__name__
