"""Find the schema files: inside the package when it was installed, else in the checkout."""

import functools
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

NAMESPACE = "ch.luimode.flashsale"


class SchemaName(StrEnum):
    """The records that may travel, by Avro full name; each has a file of that name."""

    PURCHASE_REQUEST = f"{NAMESPACE}.PurchaseRequest"
    AVRO_PURCHASE_REQUEST = f"{NAMESPACE}.AvroPurchaseRequest"
    """The variant with the id of the flash-sale event, as deployed services write it."""
    PURCHASES_ACCEPTED = f"{NAMESPACE}.PurchasesAccepted"
    BARRIER = f"{NAMESPACE}.Barrier"
    ORDER_CREATED = f"{NAMESPACE}.OrderCreated"
    PURCHASE_REJECTED = f"{NAMESPACE}.PurchaseRejected"


@functools.cache
def schema_texts() -> Mapping[SchemaName, str]:
    """Read every schema file, once; the texts are what a registry is given."""
    packaged = files(__package__) / "schemas"
    # An editable install does not carry the folder that a wheel puts inside the package.
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "schemas"
    return MappingProxyType(
        {name: (folder / f"{name}.avsc").read_text(encoding="utf-8") for name in SchemaName}
    )
