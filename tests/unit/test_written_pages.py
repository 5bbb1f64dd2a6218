"""Pages and pictures that are written from the code are as the code is."""

import pytest

from docs.written.__main__ import DOCS, WRITTEN
from flashsale.http.problems import KINDS


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_from_the_code_is_current(name: str) -> None:
    """`python -m docs.written` writes it anew."""
    assert (DOCS / name).read_text("utf-8") == WRITTEN[name]()


def test_every_problem_type_has_a_section_and_a_route() -> None:
    """A client that meets one can look it up, and whoever calls a route knows what may come."""
    sections = (DOCS / "problems.md").read_text("utf-8")
    routes = (DOCS / "http.md").read_text("utf-8")
    by_no_route = {"bad-request", "not-found", "url-too-long", "head-too-large"}
    for kind in KINDS:
        assert f"\n## {kind.code}\n" in sections
        assert f"(problems.md#{kind.code})" in routes or kind.code in by_no_route, kind.code
