"""Private copies of the tree: one that is whole, and one for each mechanism that is taken out."""

import os
import shutil
from pathlib import Path

from tests.antitests.antitest import AntiTest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "lua", "schemas", "tests", "docs", "scripts", "requirements")
FILES = ("pyproject.toml", "README.md", "Makefile")
SHARED = (".servers",)
"""What is installed beside the tree and only read."""


class DoesNotFit(Exception):
    """A patch whose old text is not in its file exactly once: the code has moved."""


def copy_tree(target: Path) -> None:
    """Copy all that tests need. Links lead to what is shared."""
    target.mkdir()
    for folder in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "results", "node_modules")
        shutil.copytree(ROOT / folder, target / folder, ignore=ignored)
    for file in FILES:
        shutil.copy2(ROOT / file, target / file)
    for name in SHARED:
        if (ROOT / name).exists():
            (target / name).symlink_to((ROOT / name).resolve())


def copy_without(antitest: AntiTest, whole: Path, target: Path) -> None:
    """Copy a copy, without the mechanism. Files that stay the same are shared by hard links."""
    texts = patched(antitest, whole)
    shutil.copytree(whole, target, copy_function=os.link, symlinks=True)
    for file, text in texts.items():
        path = target / file
        # A new file, and no compiled form of the old one: the whole copy keeps its own.
        path.unlink()
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()


def patched(antitest: AntiTest, tree: Path) -> dict[str, str]:
    """Take the mechanism out of the files' text. Raises DoesNotFit."""
    texts: dict[str, str] = {}
    for patch in antitest.patches:
        file = patch.file or antitest.file
        text = texts[file] if file in texts else (tree / file).read_text(encoding="utf-8")
        count = text.count(patch.old)
        if count != 1:
            raise DoesNotFit(f"{file} has {count} times: {patch.old.strip()}")
        texts[file] = text.replace(patch.old, patch.new)
        if file.endswith(".py"):
            compile(texts[file], file, "exec")
    return texts
