"""What MkDocs is told beyond mkdocs.yml: folders in the navigation, and links into the sources.

A page links to a source file as it does in the repository, `../src/flashsale_core/purchase.py`, and
may name what is meant in it: `#PurchaseDesk.buy`. Here such a link leads to a page that shows the
file, at the line where that begins. One that leads nowhere is a warning, which ends a strict build.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.written.sources import line_of

log = logging.getLogger("mkdocs.plugins.flashsale")
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^)#\s]+)(?:#([\w.]+))?\)")
LANGUAGES = {".py": "python", ".lua": "lua", ".avsc": "json", ".yaml": "yaml", ".toml": "toml"}
FENCE = re.compile(r"^```(\w+) [^\n`]+$", re.MULTILINE)
"""The words behind a block's language say who runs it, and mean nothing to MkDocs."""
HEAD = "---\nsearch: {exclude: true}\nhide: [toc]\n---\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of folders."""
    if config.nav is not None:
        config.nav = _listed(config.nav, Path(config.docs_dir))
    return config


def _listed(nav: list[Any], docs: Path) -> list[Any]:
    listed: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            [(title, inner)] = entry.items()
            inside = _listed(inner, docs) if isinstance(inner, list) else inner
            listed += [{title: inside}] if inside else []
        elif "*" in entry:
            listed += [page.relative_to(docs).as_posix() for page in sorted(docs.glob(entry))]
        else:
            listed.append(entry)
    return listed


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each source file that a page links to, and for each file of a folder."""
    root = Path(config.docs_dir).parent
    shown: set[Path] = set()
    for page in files.documentation_pages():
        for _, link, _ in LINK.findall(page.content_string):
            path = _target(page, link)
            if path.is_relative_to(root) and not path.is_relative_to(config.docs_dir):
                inside = path.iterdir() if path.is_dir() else ()
                shown |= {path, *(one for one in inside if one.is_file())}
    for path in sorted(path for path in shown if path.exists()):
        name = path.relative_to(root).as_posix()
        text = f"{HEAD}# {name}\n\n{_listing(path) if path.is_dir() else _source(path)}"
        files.append(File.generated(config, f"source/{name}.md", content=text))
    return files


def _source(path: Path) -> str:
    language = LANGUAGES.get(path.suffix, "text")
    return f"`````{language}\n{path.read_text('utf-8', 'replace')}`````\n"


def _listing(path: Path) -> str:
    names = sorted(one.name for one in path.iterdir() if one.is_file())
    return "".join(f"- [{name}]({path.name}/{name}.md)\n" for name in names)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to source files to their pages; leave of a block's words its language alone."""
    root = Path(config.docs_dir).parent

    def led(match: re.Match[str]) -> str:
        text, link, name = match.groups()
        path = _target(page.file, link)
        if path.is_relative_to(config.docs_dir):
            return match[0]
        shown = files.get_file_from_path(f"source/{path.relative_to(root).as_posix()}.md")
        line = 1 if name is None or shown is None else line_of(path, name)
        if shown is None or line is None:
            log.warning("%s links to %s, which is not there", page.file.src_path, match[0])
            return match[0]
        there = os.path.relpath(shown.url, Path(page.url).parent)
        anchor = f"#line-0-{line}" if line > 1 else ""
        return f'<a href="{there}{anchor}">{text}</a>'

    return LINK.sub(led, FENCE.sub(r"```\1", markdown))


def _target(page: File, link: str) -> Path:
    return Path(os.path.normpath(Path(page.abs_src_path or "/").parent / link))
