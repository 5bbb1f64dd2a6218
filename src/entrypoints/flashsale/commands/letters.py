"""Who a command asks about messages that were set aside: the database, or a running process.

Both answer the JSON objects of the HTTP API.
"""

import os
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
from urllib.parse import quote

import attrs

from flashsale.commands.configured import command_settings
from flashsale.commands.console import CommandFailed
from flashsale.commands.desk import Shown
from flashsale.commands.moments import written
from flashsale.commands.remote import RemoteDesk
from flashsale.opening import opened_codec, opened_database, opened_gate
from flashsale.settings import Settings
from flashsale_core.discarding import Discarder
from flashsale_core.ending import Ender
from flashsale_core.errors import Conflict
from flashsale_core.letter_desk import LetterDesk, Outcome
from flashsale_core.letters import Letter, Signed, TrailEntry, Wanted
from flashsale_core.model import PurchaseId, SaleId

REPLAY, DISCARD = "replay", "discard"


class Refused(Exception):
    """It cannot be done on this one letter; others go on."""


class Letters(Protocol):
    """What the commands ask. Raises CommandFailed, Conflict and Unavailable."""

    async def matching(self, wanted: Wanted, limit: int, before: int | None) -> list[Shown]:
        """List some, the newest first."""

    async def count(self, wanted: Wanted) -> int:
        """Count them."""

    async def show(self, letter_id: int) -> Shown:
        """Show one whole."""

    async def act(self, verb: str, letter_id: int, why: str, *, is_dry: bool) -> Shown:
        """Replay or discard one. Raises Refused where it does not fit how the letter stands."""

    async def end(self, sale_id: SaleId, purchase_id: PurchaseId, why: str) -> Shown:
        """Make a dead letter of a purchase that holds a unit, and discard it."""


def operator() -> str:
    """Name who sits there: the user of the operating system, at this machine."""
    try:
        import pwd  # noqa: PLC0415 - not on every platform

        name = pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError, AttributeError):
        name = str(getattr(os, "getuid", lambda: "unknown")())
    return f"{name}@{socket.gethostname()}"


@attrs.frozen
class LocalLetters:
    """The configured database; a discard needs gate and codec too."""

    desk: LetterDesk
    discarder: Discarder | None
    ender: Ender | None = None

    async def matching(self, wanted: Wanted, limit: int, before: int | None) -> list[Shown]:
        """See `Letters.matching`."""
        found = await self.desk.matching(wanted, limit, before=before)
        return [letter_json(one) for one in found]

    async def count(self, wanted: Wanted) -> int:
        """See `Letters.count`."""
        return await self.desk.count(wanted)

    async def show(self, letter_id: int) -> Shown:
        """See `Letters.show`."""
        letter, trail = await self.desk.show(letter_id)
        return whole_json(letter, trail)

    async def act(self, verb: str, letter_id: int, why: str, *, is_dry: bool) -> Shown:
        """See `Letters.act`."""
        signed = Signed(who=operator(), why=why)
        try:
            if verb == REPLAY:
                return outcome_json(await self.desk.replay(letter_id, signed, is_dry=is_dry))
            if self.discarder is None:
                raise AssertionError("opened without a gate")
            return outcome_json(await self.discarder.discard(letter_id, signed, is_dry=is_dry))
        except Conflict as refused:
            raise Refused(refused.detail) from refused

    async def end(self, sale_id: SaleId, purchase_id: PurchaseId, why: str) -> Shown:
        """See `Letters.end`."""
        if self.ender is None:
            raise AssertionError("opened without a gate")
        signed = Signed(who=operator(), why=why)
        return outcome_json(await self.ender.end(sale_id, purchase_id, signed))


@attrs.frozen
class RemoteLetters:
    """A running process's HTTP API."""

    remote: RemoteDesk

    async def matching(self, wanted: Wanted, limit: int, before: int | None) -> list[Shown]:
        """See `Letters.matching`."""
        answer = await self._list(wanted, limit, before)
        letters: list[Shown] = answer["letters"]
        return letters

    async def count(self, wanted: Wanted) -> int:
        """See `Letters.count`."""
        return int((await self._list(wanted, 1, None))["count"])

    async def _list(self, wanted: Wanted, limit: int, before: int | None) -> Shown:
        query = {**query_of(wanted), "limit": limit, "before": before}
        return await self.remote.ask("GET", "/dead-letters", query)

    async def show(self, letter_id: int) -> Shown:
        """See `Letters.show`."""
        return await self.remote.ask("GET", f"/dead-letters/{letter_id}")

    async def act(self, verb: str, letter_id: int, why: str, *, is_dry: bool) -> Shown:
        """See `Letters.act`."""
        query = {
            "who": operator(),
            "why": why or None,
            "dryRun": "true" if is_dry else None,
        }
        path = f"/dead-letters/{letter_id}/{quote(verb)}"
        return await self.remote.ask("POST", path, query, refused=Refused)

    async def end(self, sale_id: SaleId, purchase_id: PurchaseId, why: str) -> Shown:
        """See `Letters.end`."""
        path = f"/sales/{quote(sale_id)}/purchases/{quote(purchase_id)}/end"
        return await self.remote.ask("POST", path, {"who": operator(), "why": why})


def query_of(wanted: Wanted) -> Mapping[str, object]:
    """Write a filter as the HTTP API reads it."""
    [*statuses] = wanted.statuses
    if len(statuses) > 1:
        raise CommandFailed("over HTTP, one --status or --status ANY")
    return {
        "status": statuses[0].value if statuses else "ANY",
        "reason": wanted.reason,
        "saleId": wanted.sale_id,
        "purchaseId": wanted.purchase_id,
        "channel": None if wanted.channel is None else wanted.channel.value,
        "holdsUnit": None if wanted.holds_unit is None else str(wanted.holds_unit).lower(),
        "since": wanted.since_ms,
        "until": wanted.until_ms,
    }


@asynccontextmanager
async def opened_letters(url: str | None, *, may_discard: bool = False) -> AsyncIterator[Letters]:
    """Open the database; over HTTP where a URL is given, or a gate is needed that lives there."""
    settings = command_settings()
    if url is None and may_discard and settings.gate_url.is_memory:
        url = f"http://{settings.http_host}:{settings.http_port}"
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise CommandFailed("--url must begin with http:// or https://")
        token = settings.admin_token
        secret = token.get_secret_value() if token is not None else None
        yield RemoteLetters(RemoteDesk(url.rstrip("/"), secret))
        return
    async with _opened_here(settings, may_discard=may_discard) as letters:
        yield letters


@asynccontextmanager
async def _opened_here(settings: Settings, *, may_discard: bool) -> AsyncIterator[LocalLetters]:
    from flashsale.container import Commands  # noqa: PLC0415 - a heavy import, as in `configured`
    from flashsale_memory.clock import SystemClock  # noqa: PLC0415 - the same

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_database(settings))
        await database.check()
        container = Commands(settings=settings, database=database)
        discarder, ender = None, None
        if may_discard:
            gate = opened_gate(settings, SystemClock(), may_install=False)
            container.gate.override(await stack.enter_async_context(gate))
            codec = await stack.enter_async_context(opened_codec(settings))
            container.codec.override(codec)
            await container.board().refresh()
            discarder, ender = container.discarder(), container.ender()
        yield LocalLetters(container.letter_desk(), discarder, ender)


def letter_json(letter: Letter) -> Shown:
    """Write a letter as the HTTP API does in a list: without its bytes."""
    one, message = letter.parked, letter.parked.message
    return {
        "id": letter.letter_id,
        "status": one.status.value,
        "reason": one.reason,
        "detail": one.detail or None,
        "saleId": one.sale_id,
        "purchaseId": one.purchase_id,
        "holdsUnit": one.holds_unit,
        "attempts": one.attempts,
        "channel": message.channel.value,
        "origin": message.origin,
        "contentType": message.content_type,
        "writtenAt": written(message.written_at_ms),
        "parkedAt": written(letter.parked_at_ms),
        "changedAt": written(letter.changed_at_ms),
    }


def whole_json(letter: Letter, trail: Sequence[TrailEntry]) -> Shown:
    """Write it whole; bytes in base64, because they may be of any kind."""
    message = letter.parked.message
    return {
        **letter_json(letter),
        "headers": [
            {"name": name, "valueBase64": _base64(value)} for name, value in message.headers
        ],
        "keyBase64": _base64(message.key),
        "bodyBase64": _base64(message.body),
        "trail": [
            {
                "act": entry.act.value,
                "who": entry.signed.who,
                "why": entry.signed.why or None,
                "at": written(entry.at_ms),
            }
            for entry in trail
        ],
    }


def outcome_json(outcome: Outcome) -> Shown:
    """Write what became of a letter as the HTTP API does."""
    return {
        "id": outcome.letter_id,
        "status": outcome.status.value,
        "changed": outcome.is_changed,
        "detail": outcome.detail or None,
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode("ascii")


_local: type[Letters] = LocalLetters
_remote: type[Letters] = RemoteLetters
