"""A codec for tests of a bus: every fact as one JSON object, nothing to configure."""

import json
from collections.abc import Sequence
from typing import Any

import attrs

from flashsale_core.errors import Corrupt
from flashsale_core.events import (
    Barrier,
    Message,
    OrderEvent,
    OrderEventType,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import Epoch, PurchaseRequest, SaleId, Source
from flashsale_core.ports import Codec, Decoded, Encoded

CONTENT_TYPE = "application/json"
FACT_HEADER = "fact"
"""No attribute of CloudEvents: a bus may write those under names of its own binding."""


class PlainCodec:
    """Write the attrs fields as they are, with the fact's class name beside them."""

    def encode(self, fact: PurchaseRequest | PurchasesAccepted | Barrier | OrderEvent) -> Encoded:
        """Write one JSON object; its name is a header too, so that headers are seen to arrive."""
        name = type(fact).__name__
        body = json.dumps({"fact": name, **attrs.asdict(fact)}).encode()
        return Encoded(
            body=body, content_type=CONTENT_TYPE, headers=((FACT_HEADER, name.encode()),)
        )

    async def decode(self, messages: Sequence[Message]) -> list[Decoded | Corrupt]:
        """Read each; whatever is not one of the four facts is Corrupt("bad-json")."""
        return [_read(message.body) for message in messages]


def _read(body: bytes | None) -> Decoded | Corrupt:
    try:
        fields = json.loads(body or b"")
        return _fact(fields.pop("fact"), fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, Corrupt) as fault:
        return Corrupt("bad-json", repr(fault))


def _fact(name: str, fields: dict[str, Any]) -> Decoded:
    match name:
        case "PurchaseRequest":
            return PurchaseRequest(**_with_source(fields))
        case "OrderEvent":
            fields["type"] = OrderEventType(fields["type"])
            return OrderEvent(**_with_source(fields))
        case "Barrier":
            pairs = _list(fields.pop("epochs"))
            epochs = tuple((SaleId(sale), Epoch(epoch)) for sale, epoch in pairs)
            return Barrier(epochs=epochs, **fields)
        case "PurchasesAccepted":
            rows = _list(fields.pop("purchases"))
            purchases = tuple(PurchaseAccepted(**_with_source(row)) for row in rows)
            return PurchasesAccepted(purchases=purchases, **fields)
        case _:
            raise KeyError(name)


def _with_source(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "source": Source(fields["source"])}


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return value


_: type[Codec] = PlainCodec
