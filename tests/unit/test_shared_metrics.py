"""Several processes, one page of metrics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flashsale_prometheus import SharedRegistry, leave
from flashsale_prometheus.catalogue import METRICS, Across, Kind
from flashsale_prometheus.shared import ROOM_BYTES

PROCESS = """
import sys
from pathlib import Path
from flashsale_core.model import Door
from flashsale_prometheus import Metrics, PrometheusObserver, SharedRegistry, expose

registry = SharedRegistry(Path(sys.argv[1]), int(sys.argv[2]))
metrics = Metrics(registry)
observer = PrometheusObserver(metrics)

def sold(number):
    for _ in range(number):
        observer.answered(Door.HTTP, "accepted", None)

print(flush=True)
for line in sys.stdin:
    exec(line)
    if line.startswith("page"):
        sys.stdout.buffer.write(expose(registry)[0])
    print("# EOF", flush=True)
"""
ACCEPTED = 'flashsale_answers_total{door="http",outcome="accepted"}'


@attrs.frozen
class Sibling:
    """A process that does as it is told."""

    process: subprocess.Popen[str]

    def do(self, line: str) -> str:
        """Run one line there; answer what it wrote."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return "".join(iter(self.process.stdout.readline, "# EOF\n"))

    def page(self) -> dict[str, float]:
        """Read the page as Prometheus does."""
        shown = {}
        for family in text_string_to_metric_families(self.do("page = None")):
            for one in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(one.labels.items()))
                shown[f"{one.name}{{{labels}}}"] = one.value
        return shown

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def sibling(folder: Path, place: int) -> Iterator[Sibling]:
    """Begin a process in a place."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROCESS, str(folder), str(place)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "\n"
            yield Sibling(process)
        finally:
            process.kill()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Sibling]]:
    """Two processes that share a folder."""
    with ExitStack() as stack:
        yield [stack.enter_context(sibling(tmp_path, place)) for place in (1, 2)]


def test_whoever_is_asked_answers_with_the_sum_of_all(two: list[Sibling]) -> None:
    """At once, and to the last one; histograms too."""
    first, second = two
    first.do("sold(3)")
    second.do("sold(4); observer.alarm(list(observer._alarms)[0])")
    first.do("observer.batch('buy', 7, 0.003)")
    second.do("observer.batch('buy', 700, 0.7)")
    assert first.page() == second.page()
    page = first.page()
    assert page[ACCEPTED] == 7
    assert page['flashsale_alarms_total{kind="gate-drift"}'] == 1
    assert page['flashsale_batch_size_entries_bucket{le="10.0",stage="buy"}'] == 1
    assert page['flashsale_batch_size_entries_bucket{le="+Inf",stage="buy"}'] == 2
    assert page['flashsale_batch_size_entries_sum{stage="buy"}'] == 707
    assert page['flashsale_batch_duration_seconds_count{stage="buy"}'] == 2


def test_a_process_that_dies_is_still_counted_and_its_successor_counts_on(
    two: list[Sibling], tmp_path: Path
) -> None:
    """A sum that fell would look to Prometheus as if all had begun anew."""
    first, second = two
    first.do("sold(3)")
    second.do("sold(4)")
    second.kill()
    assert first.page()[ACCEPTED] == 7
    with sibling(tmp_path, 2) as successor:
        assert first.page()[ACCEPTED] == 7
        assert successor.page()[ACCEPTED] == 7
        successor.do("sold(1)")
        assert first.page()[ACCEPTED] == successor.page()[ACCEPTED] == 8


def test_trouble_of_one_process_shows_whoever_is_asked(two: list[Sibling], tmp_path: Path) -> None:
    """And ends with that process: what a dead one saw last is no news."""
    first, second = two
    first.do("metrics.dependency('gate', is_up=True); metrics.breaker('gate', is_open=False)")
    second.do("metrics.dependency('gate', is_up=False); metrics.breaker('gate', is_open=True)")
    up, is_open = 'flashsale_dependency_up{name="gate"}', 'flashsale_breaker_open{name="gate"}'
    for one in two:
        assert (one.page()[up], one.page()[is_open]) == (0, 1)
    second.kill()
    with sibling(tmp_path, 2):
        assert (first.page()[up], first.page()[is_open]) == (1, 0)
        assert first.page()['flashsale_breaker_openings_total{name="gate"}'] == 1


def test_what_all_look_at_is_shown_as_the_one_who_answers_saw_it(two: list[Sibling]) -> None:
    """Never as a sum, and gone when it is removed: a settled sale leaves the page."""
    stock = 'flashsale_stock_units{sale="1.1",standing="sold"}'
    for number, one in enumerate(two):
        one.do(f"metrics.stock.labels('1.1', 'sold').set({number + 5})")
    assert [one.page()[stock] for one in two] == [5, 6]
    two[0].do("metrics.stock.remove_by_labels({'sale': '1.1'})")
    two[1].do("metrics.stock.clear()")
    assert [stock in one.page() for one in two] == [False, False]


def test_the_page_has_the_metrics_that_a_process_alone_has(two: list[Sibling]) -> None:
    """Each once, though most have not happened yet."""
    page = two[0].do("page = None")
    named = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert sorted(named) == sorted(one.name for one in METRICS)


def test_only_gauges_say_what_several_of_them_are() -> None:
    """Counters and histograms can be nothing but summed."""
    for one in METRICS:
        assert (one.across is Across.SUM) == (one.kind is not Kind.GAUGE), one.name


def test_a_sum_over_processes_costs_microseconds(tmp_path: Path) -> None:
    """An increment stands on the hot path, once a purchase."""
    line = (
        "import timeit; spent = min(timeit.repeat(lambda: sold(1), number=5000, repeat=7)); "
        "print(spent / 5000 * 1e6)"
    )
    with sibling(tmp_path, 1) as alone:
        assert float(alone.do(line)) < 10


def test_the_files_have_their_room_from_the_begin(two: list[Sibling], tmp_path: Path) -> None:
    """A disk that fills up later must not end a process that sells."""
    for one in two:
        one.do("sold(1); observer.batch('buy', 7, 0.003)")
        one.do("metrics.dependency('gate', is_up=True); metrics.breaker('gate', is_open=False)")
    files = list(tmp_path.iterdir())
    assert len(files) == 8
    assert [file.name for file in files if file.stat().st_blocks * 512 < ROOM_BYTES] == []
    assert [file.name for file in files if file.stat().st_size != ROOM_BYTES] == []


def test_a_folder_without_room_is_an_error_at_the_start(tmp_path: Path) -> None:
    """And not later."""
    with pytest.raises(OSError, match="No such file"):
        SharedRegistry(tmp_path / "missing", 1)


def test_the_last_to_leave_takes_the_folder_away(tmp_path: Path) -> None:
    """Where the parent is gone and cannot."""
    folder = tmp_path / "shared"
    folder.mkdir()
    with sibling(folder, 1), sibling(folder, 12):
        leave(folder, 1)
        assert {file.name.partition("_")[2] for file in folder.iterdir()} >= {"12.db"}
        assert not list(folder.glob("*_1.db"))
        leave(folder, 12)
        assert not folder.exists()
