"""Ask a schema registry that speaks Confluent's API.

What the client raises becomes an error of ours in one place (`_meaning`):

    404 with the registry's own code     NoSuchSchema: the registry answered
    401, 403                             Unavailable, naming FLASHSALE_SCHEMA_REGISTRY_AUTH
    409                                  Conflict: the subject's compatibility rule says no
    all else                             Unavailable: nothing is known about any message
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import attrs

from flashsale_core.errors import Conflict, Corrupt, FlashsaleError, Unavailable, Why

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import AsyncSchemaRegistryClient

URL_SETTING: Final = "FLASHSALE_SCHEMA_REGISTRY_URL"
AUTH_SETTING: Final = "FLASHSALE_SCHEMA_REGISTRY_AUTH"
REQUEST_S_MAX: Final = 2.0
"""One answer, connection included; a batch of messages waits for it."""
NOT_FOUND_CODES: Final = frozenset({40401, 40402, 40403})
"""The registry's own "no such subject, version, schema". A bare 404 is a wrong URL or a proxy."""
DETAIL_CHARS_MAX: Final = 500
"""A registry's message is repeated no longer than this."""

_T = TypeVar("_T")


class NoSuchSchema(FlashsaleError):
    """The registry answered, and has nothing of that id or content."""


class SchemaRegistry(Protocol):
    """What the codec asks of a registry while it runs."""

    async def schema(self, schema_id: int) -> str:
        """Fetch a schema's text.

        Raises NoSuchSchema, Corrupt for what is not one Avro schema, Unavailable(REGISTRY_AWAY).
        """


def _url(_: object, __: object, value: str) -> None:
    for url in value.split(","):
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{URL_SETTING} must be an http:// or https:// URL")
        if parts.username or parts.password:
            raise ValueError(f"{URL_SETTING} must not hold a secret: use {AUTH_SETTING}")


def _user_and_password(_: object, __: object, value: str | None) -> None:
    if value is not None and not all(value.partition(":")):
        raise ValueError(f"{AUTH_SETTING} must be user:password")


@attrs.frozen(kw_only=True)
class RegistryConfig:
    """Where the registry is (one URL, or several with commas), and how to enter it."""

    url: str = attrs.field(validator=_url)
    auth: str | None = attrs.field(default=None, repr=False, validator=_user_and_password)
    """`user:password` for basic auth."""
    ca: str | None = None
    """A file with the authority that signed the registry's certificate; None: the usual ones."""


class ConfluentRegistry:
    """A registry behind confluent-kafka's client; made by `open_registry`."""

    def __init__(self, client: "AsyncSchemaRegistryClient", config: RegistryConfig) -> None:
        """Use an open client."""
        self._client = client
        self._hosts = ", ".join(urlsplit(url.strip()).netloc for url in config.url.split(","))

    async def schema(self, schema_id: int) -> str:
        """Fetch a schema's text, as `SchemaRegistry` says."""
        found = await self._ask(self._client.get_schema(schema_id))
        if found.schema_type not in (None, "AVRO") or found.references or not found.schema_str:
            kind = "with references" if found.references else found.schema_type
            raise Corrupt("schema-refused", f"schema {schema_id} is not one Avro schema: {kind}")
        return str(found.schema_str)

    async def find(self, subject: str, text: str) -> int:
        """Tell the id of a schema that is registered under a subject. Raises NoSuchSchema."""
        found = await self._ask(self._client.lookup_schema(subject, _avro(text)))
        if found.schema_id is None:
            raise Unavailable(Why.REGISTRY_AWAY, f"{self._hosts} names no id for {subject}")
        return found.schema_id

    async def register(self, subject: str, text: str) -> int:
        """Register a schema and tell its id; again is a no-op. Raises Conflict("incompatible")."""
        return await self._ask(self._client.register_schema(subject, _avro(text)))

    async def is_compatible(self, subject: str, text: str) -> bool:
        """Say whether the subject's rule would take the schema; an empty subject takes any."""
        try:
            return bool(await self._ask(self._client.test_compatibility(subject, _avro(text))))
        except NoSuchSchema:
            return True

    async def _ask(self, request: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                return await request
        except Exception as exc:
            # All of them: which HTTP library's errors these are depends on what is installed.
            raise _meaning(exc, self._hosts) from exc


def _avro(text: str) -> Any:
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415 - an extra

    return Schema(text, "AVRO")


def _meaning(exc: Exception, hosts: str) -> FlashsaleError:
    """Tell what a client's exception means; only what the registry itself said is a verdict."""
    status, code, said = getattr(exc, "http_status_code", 0), getattr(exc, "error_code", 0), ""
    if status:
        said = str(getattr(exc, "error_message", ""))[:DETAIL_CHARS_MAX]
    if status == HTTPStatus.NOT_FOUND and code in NOT_FOUND_CODES:
        return NoSuchSchema(said)
    if status == HTTPStatus.CONFLICT:
        return Conflict("incompatible", said)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        detail = f"the schema registry at {hosts} refused the credentials: check {AUTH_SETTING}"
    elif status:
        detail = f"the schema registry at {hosts} answered {status}: {said}"
    else:
        detail = f"the schema registry at {hosts} did not answer ({type(exc).__name__})"
    return Unavailable(Why.REGISTRY_AWAY, detail)


def _client(config: RegistryConfig) -> "AsyncSchemaRegistryClient":
    try:
        from confluent_kafka.schema_registry import (  # noqa: PLC0415 - an extra, and slow to load
            AsyncSchemaRegistryClient,
        )
    except ImportError as exc:
        raise ImportError(
            f"{URL_SETTING} is set, and its client is missing: pip install 'flashsale[registry]'"
        ) from exc
    options: dict[str, Any] = {
        "url": config.url,
        "timeout": REQUEST_S_MAX,
        # Asking again is the worker's decision, which pauses and probes; not the client's.
        "max.retries": 0,
    }
    if config.auth is not None:
        options["basic.auth.user.info"] = config.auth
    if config.ca is not None:
        options["ssl.ca.location"] = config.ca
    return AsyncSchemaRegistryClient(options)


@asynccontextmanager
async def open_registry(config: RegistryConfig) -> AsyncIterator[ConfluentRegistry]:
    """Open a client; nothing is asked yet. Raises ImportError that names a missing extra."""
    # In a thread: loading the client and the certificates takes longer than a loop may stand.
    async with await asyncio.to_thread(_client, config) as client:
        yield ConfluentRegistry(client, config)
