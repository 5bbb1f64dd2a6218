"""The `Codec` port: Avro in two framings and JSON, with or without a schema registry.

`open_codec(AvroConfig(...))` is the way in. `register_schemas` is for an operator; nothing that
runs registers anything.
"""

from flashsale_avro.codec import (
    ACCEPTED_BYTES_MAX,
    REQUEST_BYTES_MAX,
    AvroCodec,
    AvroConfig,
    WireFormat,
    open_codec,
)
from flashsale_avro.registration import Registration, check_schemas, register_schemas
from flashsale_avro.schema_files import SchemaName, schema_texts
from flashsale_avro.schema_registry import NoSuchSchema, RegistryConfig, SchemaRegistry

__all__ = [
    "ACCEPTED_BYTES_MAX",
    "REQUEST_BYTES_MAX",
    "AvroCodec",
    "AvroConfig",
    "NoSuchSchema",
    "Registration",
    "RegistryConfig",
    "SchemaName",
    "SchemaRegistry",
    "WireFormat",
    "check_schemas",
    "open_codec",
    "register_schemas",
    "schema_texts",
]
