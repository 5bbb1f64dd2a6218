"""Our schemas in a registry: registered by an operator, looked up by running processes.

The subject is the record's full name (RecordNameStrategy), because two records share each of the
engine's channels, and so that neither topics nor brokers appear here. Others may register their
writer's schema under any subject: a message is read by its id.
"""

import attrs

from flashsale_avro.schema_files import SchemaName, schema_texts
from flashsale_avro.schema_registry import (
    ConfluentRegistry,
    NoSuchSchema,
    RegistryConfig,
    open_registry,
)
from flashsale_core.errors import Conflict


@attrs.frozen(kw_only=True)
class Registration:
    """Where one of our schemas stands in the registry."""

    subject: str
    schema_id: int | None
    """None where it is not registered."""
    is_new: bool = False
    """Whether this call registered it."""
    is_compatible: bool = True
    """Whether the subject's compatibility rule takes it."""


async def own_ids(registry: ConfluentRegistry) -> dict[SchemaName, int]:
    """Look up the ids of all our schemas.

    Raises Conflict("schema-not-registered") that names the missing ones and the command.
    """
    ids: dict[SchemaName, int] = {}
    for name, text in schema_texts().items():
        try:
            ids[name] = await registry.find(name, text)
        except NoSuchSchema:
            continue
    missing = [name for name in SchemaName if name not in ids]
    if missing:
        raise Conflict(
            "schema-not-registered",
            f"the schema registry lacks {', '.join(missing)}: run `flashsale schema register`",
        )
    return ids


async def register_schemas(config: RegistryConfig) -> list[Registration]:
    """Register every schema of ours that is not there; run again, it changes nothing.

    Raises Conflict("schema-incompatible") with every refusal of the registry, after it has tried
    them all; Unavailable(REGISTRY_AWAY).
    """
    done: list[Registration] = []
    refused: list[str] = []
    async with open_registry(config) as registry:
        for name, text in schema_texts().items():
            try:
                done.append(await _register(registry, name, text))
            except Conflict as conflict:
                refused.append(f"{name}: {conflict.detail}")
    if refused:
        raise Conflict("schema-incompatible", "the schema registry refuses " + "; ".join(refused))
    return done


async def _register(registry: ConfluentRegistry, name: SchemaName, text: str) -> Registration:
    try:
        return Registration(subject=name, schema_id=await registry.find(name, text))
    except NoSuchSchema:
        try:
            schema_id = await registry.register(name, text)
        except Conflict:
            return await _registered_meanwhile(registry, name, text)
        return Registration(subject=name, schema_id=schema_id, is_new=True)


async def _registered_meanwhile(
    registry: ConfluentRegistry, name: SchemaName, text: str
) -> Registration:
    """Look once more after a refusal: of two deployments at once, one comes second."""
    try:
        return Registration(subject=name, schema_id=await registry.find(name, text))
    except NoSuchSchema:
        # Nobody else's doing. Asked again, because a refusal of the moment says nothing.
        schema_id = await registry.register(name, text)
        return Registration(subject=name, schema_id=schema_id, is_new=True)


async def check_schemas(config: RegistryConfig) -> list[Registration]:
    """Tell how every schema of ours stands in the registry; changes nothing.

    Raises Unavailable(REGISTRY_AWAY).
    """
    async with open_registry(config) as registry:
        return [await _standing(registry, name, text) for name, text in schema_texts().items()]


async def _standing(registry: ConfluentRegistry, name: SchemaName, text: str) -> Registration:
    try:
        return Registration(subject=name, schema_id=await registry.find(name, text))
    except NoSuchSchema:
        fits = await registry.is_compatible(name, text)
        return Registration(subject=name, schema_id=None, is_compatible=fits)
