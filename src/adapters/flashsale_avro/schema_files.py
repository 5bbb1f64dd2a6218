"""Find the schema files: inside the package when it was installed, else in the checkout."""

import functools
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
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
    folder = _folder()
    return MappingProxyType(
        {name: (folder / f"{name}.avsc").read_text(encoding="utf-8") for name in SchemaName}
    )


@functools.cache
def released_texts() -> Mapping[str, Mapping[str, str]]:
    """Read the schemas of every release, the oldest first: by version, then by full name."""
    releases = _folder() / "released"
    versions = [one.name for one in releases.iterdir()] if releases.is_dir() else []
    return MappingProxyType(
        {
            version: MappingProxyType(
                {
                    file.name.removesuffix(".avsc"): file.read_text(encoding="utf-8")
                    for file in sorted((releases / version).iterdir(), key=lambda file: file.name)
                }
            )
            for version in sorted(versions, key=_numbers)
        }
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _folder() -> Traversable:
    packaged = files(__package__) / "schemas"
    # An editable install does not carry the folder that a wheel puts inside the package.
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "schemas"
