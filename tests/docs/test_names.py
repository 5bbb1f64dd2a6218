"""Names that the pages use exist in the code: settings, commands, targets, routes, files."""

import re
import subprocess
import sys
from functools import cache

import attrs
import pytest

from flashsale.settings import Settings
from flashsale.settings_loading import variable_of
from tests.docs.pages import ROOT, pages

TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in pages()}
OURS = re.compile(r"\bFLASHSALE_[A-Z_]+\b")
COMMAND = re.compile(r"(?:^|`)flashsale ((?:[a-z][a-z-]*(?: |\b)){1,2})", re.MULTILINE)
TARGET = re.compile(r"`make ([a-z-]+)")
ROUTE = re.compile(r"\b(?:GET|POST)\s+(/[a-zA-Z/{}-]*)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
NOT_SETTINGS = {"FLASHSALE_CONFIG", "FLASHSALE_SERVERS_HOME", "FLASHSALE_CI"}


def found(pattern: re.Pattern[str]) -> set[tuple[str, str]]:
    """Find a pattern on every page."""
    return {(page, match) for page, text in TEXT.items() for match in pattern.findall(text)}


def test_settings_exist() -> None:
    """A setting that is documented can be set."""
    known = {variable_of(field.name) for field in attrs.fields(Settings)} | NOT_SETTINGS
    used = {(page, name) for page, name in found(OURS) if not name.startswith("FLASHSALE_TEST")}
    assert {(page, name) for page, name in used if name.rstrip("_") not in known} == set()


def test_make_targets_exist() -> None:
    """A target that is documented can be made."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {(page, name) for page, name in found(TARGET) if name not in targets} == set()


def test_links_lead_somewhere() -> None:
    """A file that a page links to is there."""
    broken = {
        (page, link)
        for page, link in found(LINK)
        if not ((ROOT / page).parent / link.strip()).exists()
    }
    assert broken == set()


@cache
def command_exists(words: str) -> bool:
    """Ask the command line for a command's help."""
    asked = [sys.executable, "-m", "flashsale", *words.split(), "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("words", sorted({words.strip() for _, words in found(COMMAND)}))
def test_commands_exist(words: str) -> None:
    """A command that is documented can be typed."""
    assert command_exists(words), words
