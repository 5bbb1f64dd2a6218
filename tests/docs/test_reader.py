"""The reader of the pages notices what a page says wrongly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.reader import Reader, reader


@pytest.fixture
def somebody(tmp_path: Path) -> Iterator[Reader]:
    """Have a reader who uses another port than the page names."""
    with reader(tmp_path, {"FLASHSALE_HTTP_PORT": "1"}) as ours:
        yield ours


def page(tmp_path: Path, *parts: tuple[str, str]) -> Path:
    """Write a page of these blocks."""
    text = "".join(f"```{info}\n{block}\n```\n\n" for info, block in parts)
    made = tmp_path / "page.md"
    made.write_text(text, "utf-8")
    return made


def test_a_page_is_typed_in_one_shell(tmp_path: Path, somebody: Reader) -> None:
    """What one block sets, the next has; the page's port is the reader's; `…` is anything."""
    somebody.read(
        page(
            tmp_path,
            ("sh", "who=ann"),
            ("sh", "echo first $who; echo http://127.0.0.1:8080/ second"),
            ("text shown", "fi…ann\nhttp://127.0.0.1:1/"),
        )
    )
    assert somebody.typed == 2


def test_a_block_that_fails_is_told_with_its_line(tmp_path: Path, somebody: Reader) -> None:
    """In the middle of a pipe, too."""
    with pytest.raises(AssertionError, match=r"page\.md:6 failed"):
        somebody.read(page(tmp_path, ("sh", "true"), ("sh", "false | cat\ntrue")))


def test_an_answer_that_is_not_as_shown_is_told(tmp_path: Path, somebody: Reader) -> None:
    """So is one that comes in another order."""
    with pytest.raises(AssertionError, match="shows 'one'"):
        somebody.read(page(tmp_path, ("sh", "echo one; echo two"), ("text shown", "two\none")))


def test_a_second_block_of_a_terminal_ends_the_first(tmp_path: Path, somebody: Reader) -> None:
    """As Ctrl-C does."""
    started = (
        "echo Flashsale is open; trap 'touch ended; exit' INT; while true; do sleep 0.05; done"
    )
    again = ("sh terminal 1", "ls ended; echo Flashsale is open; sleep 100")
    somebody.read(page(tmp_path, ("sh terminal 1", started), again))
    assert (tmp_path / "ended").exists()


def test_processes_are_ended_where_a_page_asks_for_it(tmp_path: Path, somebody: Reader) -> None:
    """Those that the shell has left running."""
    left = ("sh", "sleep 100 &\nleft=$!")
    somebody.read(page(tmp_path, left, ("sh processes stopped", "! kill -0 $left")))
