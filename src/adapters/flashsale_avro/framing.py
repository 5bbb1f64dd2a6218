"""How a message says which schema wrote it: by the header that its bytes begin with.

Confluent       00            4 bytes, big-endian: the registry's id        record
single object   C3 01         8 bytes, little-endian: CRC-64-AVRO           record
"""

from typing import Any, Final

from fastavro.schema import fingerprint, to_parsing_canonical_form

from flashsale_core.errors import Corrupt

CONFLUENT_MAGIC: Final = 0x00
CONFLUENT_BYTES: Final = 5
SINGLE_OBJECT_MAGIC: Final = b"\xc3\x01"
SINGLE_OBJECT_BYTES: Final = 10


def confluent_header(schema_id: int) -> bytes:
    """Begin a message in a registry's framing."""
    return bytes([CONFLUENT_MAGIC]) + schema_id.to_bytes(4, "big")


def single_object_header(schema: Any) -> bytes:
    """Begin a message that names its schema by fingerprint, so that no registry is needed."""
    crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return SINGLE_OBJECT_MAGIC + bytes.fromhex(crc)


def header_of(body: bytes) -> bytes:
    """Cut the header off; the record begins behind it.

    Raises Corrupt("bad-framing") for what carries neither framing.
    """
    if body[0] == CONFLUENT_MAGIC:
        if len(body) < CONFLUENT_BYTES:
            raise Corrupt("bad-framing", f"{len(body)} bytes end inside the schema id")
        return body[:CONFLUENT_BYTES]
    if body.startswith(SINGLE_OBJECT_MAGIC):
        if len(body) < SINGLE_OBJECT_BYTES:
            raise Corrupt("bad-framing", f"{len(body)} bytes end inside the fingerprint")
        return body[:SINGLE_OBJECT_BYTES]
    raise Corrupt(
        "bad-framing", f"begins with {body[:2].hex()}; 00 or c301 say which schema wrote a message"
    )


def schema_id_of(header: bytes) -> int | None:
    """Tell the registry's id that a header carries; None when it carries a fingerprint."""
    if header[0] == CONFLUENT_MAGIC:
        return int.from_bytes(header[1:], "big")
    return None
