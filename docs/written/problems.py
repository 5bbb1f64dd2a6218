"""The page of problem types, from the table that answers are written from."""

from flashsale.http.problems import KINDS, Kind

HEAD = """\
# Problem types

Every error of the HTTP API is a problem detail of RFC 9457 (`application/problem+json`). A client
compares `type` as text: it is stable, and means the same on every host. `title` and `detail` are
for people and may change. Members of a problem's own, as `available`, stand beside `type` in the
body. `GET /problems` answers the same table; [HTTP](http.md) says which route answers what.

| type | status | title |
|---|---|---|
"""
END = "\nThis page is written by `python -m docs.written` from `flashsale/http/problems.py`.\n"


def page() -> str:
    """Write the page: a table of all, and a section for each."""
    kinds = sorted(KINDS, key=lambda kind: (kind.status, kind.code))
    return HEAD + "".join(map(_row, kinds)) + "".join(map(_section, kinds)) + END


def _row(kind: Kind) -> str:
    return f"| [`{kind.type}`](#{kind.code}) | {kind.status} | {kind.title} |\n"


def _section(kind: Kind) -> str:
    return (
        f"\n## {kind.code}\n\n`{kind.type}`, status {kind.status}: {kind.title}. {kind.meaning}\n"
    )
