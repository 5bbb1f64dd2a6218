"""The words that values are made of: ids, counts, moments, codes."""

import string

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from flashsale_core.model import (
    PAYMENT_TOKEN_CHARS_MAX,
    QUANTITY_MAX,
    TIME_MS_MAX,
    Epoch,
    EventId,
    ItemId,
    PurchaseId,
    Reason,
    SaleId,
    Source,
    UserId,
    sale_id_of,
)


def identifiers() -> SearchStrategy[str]:
    """Draw what may name anything: 1 to 64 characters of A-Z a-z 0-9 _ . and -."""
    return st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=64)


def purchase_ids() -> SearchStrategy[PurchaseId]:
    """Draw ids of purchases."""
    return identifiers().map(PurchaseId)


def user_ids() -> SearchStrategy[UserId]:
    """Draw ids of buyers."""
    return identifiers().map(UserId)


def item_ids() -> SearchStrategy[ItemId]:
    """Draw ids of items."""
    return identifiers().map(ItemId)


def event_ids() -> SearchStrategy[EventId]:
    """Draw ids of flash-sale events."""
    return identifiers().map(EventId)


def rounds() -> SearchStrategy[int]:
    """Draw numbers of sales of an item; most items are sold once or twice."""
    return st.integers(1, 3) | st.integers(1, 2**31 - 1)


def sale_ids() -> SearchStrategy[SaleId]:
    """Draw ids of sales, `item.round`."""
    return st.builds(sale_id_of, item_ids(), rounds())


def epochs() -> SearchStrategy[Epoch]:
    """Draw numbers of a gate's lives."""
    return st.integers(1, 2**53).map(Epoch)


def quantities(max_value: int = QUANTITY_MAX) -> SearchStrategy[int]:
    """Draw how many units somebody asks for."""
    return st.integers(1, max_value)


def times_ms() -> SearchStrategy[int]:
    """Draw moments, UTC milliseconds since 1970, up to the year 9999."""
    return st.integers(0, TIME_MS_MAX)


def sources() -> SearchStrategy[Source]:
    """Draw where buyers come from."""
    return st.sampled_from(Source)


def payment_tokens() -> SearchStrategy[str]:
    """Draw tokens of a payment gateway: any text without NUL."""
    characters = st.characters(codec="utf-8", exclude_characters="\x00")
    return st.text(characters, min_size=1, max_size=PAYMENT_TOKEN_CHARS_MAX)


def traceparents() -> SearchStrategy[str]:
    """Draw W3C trace contexts."""

    def digits(count: int) -> SearchStrategy[str]:
        return st.integers(0, 16**count - 1).map(lambda number: f"{number:0{count}x}")

    return st.builds("{}-{}-{}-{}".format, digits(2), digits(32), digits(16), digits(2))


def reasons() -> SearchStrategy[str]:
    """Draw why a purchase was rejected: the engine's reasons, and codes of a user's own rules."""
    return st.sampled_from([reason.value for reason in Reason]) | refusal_codes()


def refusal_codes() -> SearchStrategy[str]:
    """Draw codes of a user's own rules."""
    return st.from_regex(r"[A-Z][A-Z0-9_]{0,63}", fullmatch=True)
