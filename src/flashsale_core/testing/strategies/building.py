"""How a class is drawn, field by field."""

from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
Fields = SearchStrategy[Any]
"""A strategy for one field, in the place of the usual one."""


def built(kind: type[T], replaced: dict[str, Fields], **fields: Fields) -> SearchStrategy[T]:
    """Draw a class; what the caller replaced wins."""
    return st.builds(kind, **{**fields, **replaced})
