"""What fails a hundred times a second is said so that a person can read it."""

from structlog import get_logger
from structlog.testing import capture_logs

from flashsale.seldom import EVERY_S, Seldom
from tests.unit.world import TurnableClock


def test_one_line_at_once_and_then_one_now_and_then_with_a_count() -> None:
    """Nothing is hidden: each line says how many it stands for."""
    clock = TurnableClock()
    seldom = Seldom(get_logger(), "it waits", "it goes on", now_ms=clock.monotonic_ms)
    with capture_logs() as lines:
        for number in range(100):
            seldom.waits(error=f"{number}")
        assert [line["error"] for line in lines] == ["0"]
        clock.ms += int(EVERY_S * 1_000)
        seldom.waits(error="later")
        seldom.waits(error="again")
        clock.ms += 1_000
        seldom.goes_on()
        seldom.goes_on()
    assert [line["event"] for line in lines] == ["it waits", "it waits", "it goes on"]
    assert [line.get("held_back") for line in lines] == [None, 99, 1]
    assert lines[-1]["waited_s"] == EVERY_S + 1
    assert [line["log_level"] for line in lines] == ["warning", "warning", "info"]


def test_what_flickers_is_not_told_more_often() -> None:
    """An outage of half the partitions waits and goes on many times a second."""
    clock = TurnableClock()
    seldom = Seldom(get_logger(), "it waits", "it goes on", now_ms=clock.monotonic_ms)
    with capture_logs() as lines:
        for _ in range(100):
            clock.ms += 10
            seldom.waits()
            seldom.goes_on()
    assert [line["event"] for line in lines] == ["it waits", "it goes on"]


def test_what_never_waited_says_nothing() -> None:
    """A worker that is well writes no line a delivery."""
    with capture_logs() as lines:
        Seldom(get_logger(), "waits", "goes on", now_ms=TurnableClock().monotonic_ms).goes_on()
    assert lines == []
