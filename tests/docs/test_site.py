"""The site of the pages: built strictly, whole, and of nothing that another host has."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
import pytest

from tests.docs.pages import ROOT, pages

BUILD_S_MAX = 90
ASSETS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
NO_ASSET = {"canonical", "prev", "next"}
STYLE = re.compile(r"""(?:url\(|@import )\s*["']?((?:https?:)?//[^"')]+)""")


@attrs.define
class Found(HTMLParser):
    """What a built page links to, takes in, and offers to be linked to."""

    links: list[str] = attrs.field(factory=list)
    assets: list[str] = attrs.field(factory=list)
    anchors: set[str] = attrs.field(factory=set)
    text: list[str] = attrs.field(factory=list)

    def __attrs_pre_init__(self) -> None:
        """Begin as a parser."""
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        named = {name: value or "" for name, value in attributes}
        self.anchors |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if tag in ASSETS and ASSETS[tag] in named and named.get("rel") not in NO_ASSET:
            self.assets.append(named[ASSETS[tag]])

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text.append(data)


def build(folder: Path, docs: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Build the site into a folder, of other pages where given."""
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    changed = folder / "mkdocs.yml"
    config = config.replace("docs_dir: docs", f"docs_dir: {docs or ROOT / 'docs'}")
    config = config.replace("site_dir: build/site", f"site_dir: {folder / 'site'}")
    config = config.replace("paths: [src", f"paths: [{ROOT}/src")
    config = config.replace(" src/", f" {ROOT}/src/")
    config = config.replace("- docs/written/", f"- {ROOT}/docs/written/")
    changed.write_text(config, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(changed)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=BUILD_S_MAX,
        check=False,
    )


def test_the_site_builds_and_is_whole(tmp_path: Path) -> None:
    """Every link and anchor inside leads somewhere; scripts, fonts and pictures are its own."""
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    built = {}
    for path in site.rglob("*.html"):
        built[path.resolve()] = page = Found()
        page.feed(path.read_text("utf-8"))
    foreign, broken, raw = set(), set(), set()
    for path, page in built.items():
        foreign |= {(path.name, one) for one in page.assets if urlsplit(one).netloc}
        broken |= {(path.name, one) for one in _broken(path, page, built)}
        if "source" not in path.relative_to(site).parts and "```" in "".join(page.text):
            raw.add(path.name)
    for style in site.rglob("*.css"):
        foreign |= {(style.name, one) for one in STYLE.findall(style.read_text("utf-8"))}
    assert foreign == set()
    assert broken == set()
    assert raw == set()
    assert not list(site.rglob("*.py"))


def _broken(path: Path, page: Found, built: dict[Path, Found]) -> list[str]:
    """List links into the site that lead nowhere. 404.html's are from the root, where it may be."""
    if path.name == "404.html":
        return []
    broken = []
    for link in [*page.links, *page.assets]:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        there = there / "index.html" if there.is_dir() else there
        anchors = built[there].anchors if there in built else set()
        if not there.is_file() or (anchors and parts.fragment and parts.fragment not in anchors):
            broken.append(link)
    return broken


LIST = re.compile(r"(?:- |\d+\. )")
IN_LIST = re.compile(r"(?:- |\d+\. | +\S)")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_list_and_a_table_begin_after_an_empty_line(page: Path) -> None:
    """Readers of Markdown differ about others: a sentence that goes on with `8.` becomes a list."""
    is_code, before, wrong = False, "", []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        is_code ^= line.startswith("```")
        begins_list = LIST.match(line) and before and not IN_LIST.match(before)
        begins_table = line.startswith("|") and before and not before.startswith("|")
        if not is_code and (begins_list or begins_table):
            wrong.append((number, line))
        before = line.rstrip()
    assert wrong == []


def _links_nowhere(docs: Path) -> None:
    page = docs / "index.md"
    page.write_text(page.read_text("utf-8") + "\n[gone](no-such-page.md)\n", "utf-8")


def _names_no_anchor(docs: Path) -> None:
    page = docs / "index.md"
    page.write_text(page.read_text("utf-8") + "\n[gone](guarantees.md#no-such-part)\n", "utf-8")


def _names_no_function(docs: Path) -> None:
    page = docs / "hot-path.md"
    text = page.read_text("utf-8").replace("#PurchaseDesk.buy)", "#PurchaseDesk.bye)")
    page.write_text(text, "utf-8")


def _is_in_no_list(docs: Path) -> None:
    (docs / "forgotten.md").write_text("# Forgotten\n", "utf-8")


@pytest.mark.parametrize(
    ("breaking", "warned"),
    [
        (_links_nowhere, ["no-such-page.md"]),
        (_names_no_anchor, ["#no-such-part"]),
        # By the hook, and by MkDocs, to which the link stays as it was.
        (_names_no_function, ["#PurchaseDesk.bye", "#PurchaseDesk.bye"]),
        (_is_in_no_list, ['not included in the "nav"']),
    ],
)
def test_what_leads_nowhere_ends_the_build(
    tmp_path: Path, breaking: Callable[[Path], None], warned: list[str]
) -> None:
    """A link, an anchor, a function in the sources; and a page that nobody would find."""
    root = tmp_path / "copy"
    shutil.copytree(ROOT / "docs", root / "docs", ignore=shutil.ignore_patterns("*.py"))
    for name in ("src", "lua", "schemas", "deploy"):
        (root / name).symlink_to(ROOT / name)
    # The reference takes most of the time, and breaks nothing here.
    for page in (root / "docs" / "api").glob("*.md"):
        page.write_text(f"# {page.stem}\n", "utf-8")
    breaking(root / "docs")
    done = build(tmp_path, root / "docs")
    assert done.returncode != 0
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == len(warned), done.stderr
    assert all(told in line for told, line in zip(warned, warnings, strict=True)), warnings
