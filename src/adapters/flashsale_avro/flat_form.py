"""Writes records that are nothing but texts and numbers, as the order events are.

The relay writes one for each order, and fastavro's way, made for any schema, takes twice as long.
Whatever is out of the ordinary is left to it.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

FlatWriter = Callable[[bytes, Mapping[str, Any]], bytes | None]

_TEXT: Final = "string"
_MAYBE_TEXT: Final = ["null", "string"]
_BITS: Final = {"int": 31, "long": 63}
_SEVEN_BITS: Final = 0x7F


def flat_writer(schema: Any) -> FlatWriter | None:
    """Prepare for a schema whose enums are ints already; None when it has other fields as well.

    The writer answers None for a record that is not simply right.
    """
    kinds = [(field["name"], field["type"]) for field in schema.get("fields", ())]
    if not kinds or any(k not in (_TEXT, _MAYBE_TEXT, *_BITS) for _, k in kinds):
        return None
    fields = [(name, k == _TEXT, k == _MAYBE_TEXT, _BITS.get(str(k), 0)) for name, k in kinds]

    def write(header: bytes, record: Mapping[str, Any]) -> bytes | None:
        parts = [header]
        for name, is_text, is_maybe_text, bits in fields:
            value = record.get(name)
            if is_maybe_text and value is None:
                parts.append(b"\x00")
            elif is_text or is_maybe_text:
                if type(value) is not str or not value.isascii():
                    return None
                if is_maybe_text:
                    parts.append(b"\x02")
                parts += (_zigzag(len(value)), value.encode())
            elif type(value) is int and -1 << bits <= value < 1 << bits:
                parts.append(_zigzag(value))
            else:
                return None
        return b"".join(parts)

    return write


@lru_cache(maxsize=4_096)
def _zigzag(number: int) -> bytes:
    """Write Avro's `int` or `long`; a batch's lengths, quantities and times are few."""
    rest = number << 1 if number >= 0 else ~(number << 1)
    written = bytearray()
    while rest > _SEVEN_BITS:
        written.append(rest & _SEVEN_BITS | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)
