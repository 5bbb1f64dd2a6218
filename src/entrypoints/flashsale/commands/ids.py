"""Ids as people type them, checked before anything is opened."""

import re
from typing import Annotated, Any

from cyclopts import Parameter

from flashsale_core.model import IDENTIFIER

_SALE = re.compile(rf"{IDENTIFIER.pattern}\.[0-9]{{1,10}}", re.ASCII)


def _identifier(_: Any, value: str | None) -> None:
    if value is not None and not IDENTIFIER.fullmatch(value):
        raise ValueError("must be 1 to 64 characters of A-Z a-z 0-9 _ . -")


def _sale_id(_: Any, value: str | None) -> None:
    if value is not None and not _SALE.fullmatch(value):
        raise ValueError("must be the item, a dot, and the round, as in 1.1")


Identifier = Annotated[str, Parameter(validator=_identifier)]
SaleIdText = Annotated[
    str,
    Parameter(validator=_sale_id, help="The sale's id: the item, a dot, and the round, as in 1.1."),
]
