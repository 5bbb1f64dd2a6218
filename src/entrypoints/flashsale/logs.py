"""Logs: one line a thing that happened, JSON for machines and colours for a terminal.

`set_up_logging` is called once by an entrypoint, never at import. Our own lines come through
structlog, those of the libraries through the standard library's loggers; both end in the same
processors and on the same stream, standard error, so that a command's output stays alone on
standard output.
"""

import contextlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from json.encoder import encode_basestring
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

MASK = "***"
SECRET_CHARS_MIN = 4
"""A shorter secret would mask half the log, and protects nothing."""
_SECRET_KEY = re.compile(
    r"password|passwd|secret|token|authorization|credential|api_key", re.IGNORECASE
)
_USERINFO = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")
_QUIETER = (
    "aiokafka",
    "aio_pika",
    "aiormq",
    "alembic",
    "asyncio",
    "sqlalchemy",
    "asyncpg",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "urllib3",
)
"""Libraries whose INFO is of use to their own authors; ours begins at WARNING for them."""


class Form(StrEnum):
    """How a line is written."""

    AUTO = "auto"
    """For a person where the stream is a terminal, else for machines."""
    JSON = "json"
    CONSOLE = "console"


def set_up_logging(
    level: str = "info",
    *,
    form: Form = Form.AUTO,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send all logs of the process to one stream (standard error), from `level` on.

    `secrets` are texts that must not be seen wherever a library may put them into a line.
    """
    sink = _Sink(sys.stderr if stream is None else stream)
    weight = logging.getLevelNamesMapping()[level.upper()]
    for_person = form is Form.CONSOLE or (form is Form.AUTO and sink.isatty())
    finishing = _finishing(for_person=for_person, secrets=tuple(secrets))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _time(),
            *finishing,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(weight),
        logger_factory=structlog.WriteLoggerFactory(file=sink),  # type: ignore[arg-type]
        # Loggers made before a second call, as in tests, must not keep the first one's stream.
        cache_logger_on_first_use=False,
    )
    _route_libraries(sink, weight, finishing)
    if for_person:
        _Many.write = staticmethod(_one_by_one)
    else:
        is_written = weight <= logging.INFO
        _Many.write = _Joined(sink, tuple(secrets)) if is_written else staticmethod(_nothing)


Rows = Iterable[Mapping[str, str | None]]


def write_many(event: str, rows: Rows) -> None:
    """Write the same thing of many, at INFO: a line each, and all of them in one write.

    For what comes by the thousand: a line through all processors costs 20 µs, one of these 1 µs.
    The caller vouches that no name and no value is a secret by its name; given texts are masked.
    """
    _Many.write(event, rows)


def _one_by_one(event: str, rows: Rows) -> None:
    log = structlog.get_logger("flashsale")
    for row in rows:
        log.info(event, **row)


def _nothing(_event: str, _rows: Rows) -> None:
    """Lines of this level are not wanted."""


class _Many:
    """How `write_many` writes, as set up last."""

    write: Callable[[str, Rows], None] = staticmethod(_one_by_one)


class _Joined:
    """The lines that the processors would make, spelled out."""

    def __init__(self, sink: "_Sink", secrets: tuple[str, ...]) -> None:
        self._sink = sink
        self._mask = _MaskTexts(secrets)

    def __call__(self, event: str, rows: Rows) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = f'{{"time": "{now}", "level": "info", "event": {encode_basestring(event)}'
        text = "".join([f"{head}{_members(row)}}}\n" for row in rows])
        self._sink.write(self._mask(None, "", text))
        self._sink.flush()


def _members(row: Mapping[str, str | None]) -> str:
    return "".join(
        [
            f', "{name}": {encode_basestring(value)}'
            for name, value in row.items()
            if value is not None
        ]
    )


def _time() -> Processor:
    return structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")


def _finishing(*, for_person: bool, secrets: tuple[str, ...]) -> list[Processor]:
    render: Processor = (
        structlog.dev.ConsoleRenderer(timestamp_key="time")
        if for_person
        else structlog.processors.JSONRenderer(serializer=json.dumps, ensure_ascii=False)
    )
    texts = structlog.processors.format_exc_info
    return [texts, mask_by_name, _tidy, render, _MaskTexts(secrets)]


def _route_libraries(sink: "_Sink", weight: int, finishing: list[Processor]) -> None:
    """Let the standard library's loggers end where ours do."""
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                _time(),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finishing],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(weight)
    for name in _QUIETER:
        # Below INFO they write out frames and rows, with buyers' payment tokens in them.
        quiet = logging.INFO if weight <= logging.DEBUG else max(weight, logging.WARNING)
        logging.getLogger(name).setLevel(quiet)
    logging.captureWarnings(capture=True)


def mask_by_name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask values whose name says that they are secret, and passwords inside URLs."""
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = MASK
        elif isinstance(value, str) and "://" in value:
            event[key] = _USERINFO.sub(rf"\1:{MASK}@", value)
    return event


def _tidy(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put first what every line has, and leave out what is not known."""
    first = {name: event.pop(name, None) for name in ("time", "level", "event")}
    return {name: value for name, value in (first | dict(event)).items() if value is not None}


class _MaskTexts:
    """Masks given texts in the finished line, however they came there."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long_enough = {secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}
        # As it is, and as JSON writes it.
        forms = {json.dumps(one, ensure_ascii=False)[1:-1] for one in long_enough} | long_enough
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, _: WrappedLogger, __: str, line: Any) -> Any:
        for form in self._forms:
            if form in line:
                line = line.replace(form, MASK)
        return line


class _Sink:
    """A stream that a closed pipe behind it cannot turn into a failed purchase."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()
