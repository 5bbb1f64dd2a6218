"""The schemas that may be read now, by the header that messages under them begin with."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from flashsale_avro.framing import confluent_header, schema_id_of, single_object_header
from flashsale_avro.record_form import RecordForm, admit, own_form
from flashsale_avro.schema_files import SchemaName, released_texts, schema_texts
from flashsale_avro.schema_registry import NoSuchSchema, SchemaRegistry
from flashsale_core.errors import Corrupt, Unavailable, Why

LEARNED_MAX: Final = 1_000
"""Verdicts on foreign schemas that are kept, the oldest dropped first; a topic has a handful."""
UNKNOWN_S: Final = 10.0
"""How long the registry's word that it has no such schema is believed."""
AWAY_S: Final = 1.0
"""How long a registry that was away is not asked again; every caller would wait its deadline."""
SCHEMA_ID_MAX: Final = 2**31 - 1
"""Registries count with 32 bits and a sign; they are not asked for what cannot be."""

Verdict = RecordForm | Corrupt


class KnownSchemas:
    """Ours from the start, others as messages bring their ids; each is judged once."""

    def __init__(self, registry: SchemaRegistry | None, own_ids: Mapping[SchemaName, int]) -> None:
        """Know our own schemas by fingerprint, and by the ids that the registry gave them."""
        self._registry = registry
        self.own: Final = {name: own_form(name) for name in SchemaName}
        self.headers: Final = {
            name: single_object_header(json.loads(schema_texts()[name])) for name in SchemaName
        }
        """How our messages begin: with the registry's id where it gave one."""
        self._verdicts: dict[bytes, Verdict] = {
            header: self.own[name] for name, header in self.headers.items()
        }
        for text in {text for texts in released_texts().values() for text in texts.values()}:
            # What an earlier release wrote is read without a registry too.
            header = single_object_header(json.loads(text))
            if header not in self._verdicts:
                self._verdicts[header] = admit(text)
        for name, schema_id in own_ids.items():
            self.headers[name] = confluent_header(schema_id)
            self._verdicts[self.headers[name]] = self.own[name]
        self._learned: deque[bytes] = deque()
        self._unknown_until: dict[bytes, float] = {}
        self._away_until = 0.0
        self._away_detail = ""
        self._asking = asyncio.Lock()

    def verdict(self, header: bytes) -> Verdict | None:
        """Tell how messages with this header are read, or why not; None when it must be asked."""
        return self._verdicts.get(header)

    async def learn(self, headers: Iterable[bytes]) -> dict[bytes, Verdict]:
        """Ask the registry for the schemas of headers never seen, one by one, and judge them.

        Raises Unavailable(REGISTRY_AWAY); what was learned before it is kept.
        """
        async with self._asking:
            return {header: await self._learn(header) for header in headers}

    async def _learn(self, header: bytes) -> Verdict:
        known = self._verdicts.get(header)
        if known is not None:
            return known
        schema_id = schema_id_of(header)
        if schema_id is None:
            return Corrupt("unknown-fingerprint", f"no schema here has {header[2:].hex()}")
        if self._registry is None:
            return Corrupt("unknown-schema-id", f"{schema_id}, and no registry is configured")
        unknown = Corrupt("unknown-schema-id", f"the registry has no schema {schema_id}")
        if schema_id > SCHEMA_ID_MAX or time.monotonic() < self._unknown_until.get(header, 0.0):
            return unknown
        try:
            verdict: Verdict = admit(await self._ask(self._registry, schema_id))
        except NoSuchSchema:
            self._keep_unknown(header)
            return unknown
        except Corrupt as refused:
            verdict = refused.with_traceback(None)
        self._keep(header, verdict)
        return verdict

    async def _ask(self, registry: SchemaRegistry, schema_id: int) -> str:
        if time.monotonic() < self._away_until:
            raise Unavailable(Why.REGISTRY_AWAY, self._away_detail)
        try:
            return await registry.schema(schema_id)
        except Unavailable as away:
            self._away_until, self._away_detail = time.monotonic() + AWAY_S, away.detail
            raise

    def _keep_unknown(self, header: bytes) -> None:
        if len(self._unknown_until) >= LEARNED_MAX:
            self._unknown_until.clear()
        self._unknown_until[header] = time.monotonic() + UNKNOWN_S

    def _keep(self, header: bytes, verdict: Verdict) -> None:
        if len(self._learned) >= LEARNED_MAX:
            del self._verdicts[self._learned.popleft()]
        self._learned.append(header)
        self._verdicts[header] = verdict
