"""Files that the pages link to are there; tests/deploy/test_names.py looks all other names up."""

import re

from tests.docs.pages import ROOT, pages

LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


def test_links_lead_somewhere() -> None:
    """A file that a page links to is there."""
    broken = {
        (page.name, link)
        for page in pages()
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link.strip()).exists()
    }
    assert broken == set()


def test_the_first_page_leads_to_every_other() -> None:
    """Who is woken, or is new, looks there first."""
    linked = set(LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    there = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert there - linked == {"index.md"}
