"""A parent and its processes: one port, one stop, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest

from flashsale.one_of_several import VARIABLE, OneOfSeveral, one_of_several
from flashsale.several import bound
from flashsale.starting import StartFailed, claim_port
from tests.servers.launch import free_port

SEEN_S_MAX = 20
PROCESS = """
import os, signal, sys, time
from flashsale.one_of_several import one_of_several

def say(*words):
    # In one piece: others write to the same file.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

one = one_of_several()
one.follow_parent()
fails = os.path.exists("fails")
say("begun", one.place, os.getpid())
if fails:
    print("flashsale: it cannot begin", file=sys.stderr, flush=True)
    sys.exit(3)

def stop(*_):
    say("told", one.place)
    if not os.path.exists("hangs"):
        sys.exit(0)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
listener = one.own_listener()
listener.listen()
one.tell_serving()
say("serves", one.place)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"%d\\n" % one.place)
    connection.close()
"""
PARENT = """
import sys
import attrs
from flashsale import several
from flashsale.logs import set_up_logging
from flashsale.settings import Settings

several.API_STOP_S = float(sys.argv[2])
set_up_logging()
settings = attrs.evolve(
    Settings(), http_port=int(sys.argv[1]), http_processes=2, backoff_initial_ms=10
)
sys.exit(several.serve_several(settings, [sys.executable, "process.py"]))
"""


@attrs.frozen
class Parent:
    """A parent whose processes answer each connection with their place."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def said(self, word: str) -> list[str]:
        """Find the lines with a word, of the parent or of a process."""
        return [line for line in self.log.read_text().splitlines() if word in line]

    def says(self, word: str, times: int) -> list[str]:
        """Wait until that many lines have this word."""
        seen(lambda: len(self.said(word)) >= times, self.log)
        return self.said(word)

    def pids(self) -> list[int]:
        """List all processes there ever were, by their begin."""
        begun = [line for line in self.said("begun") if line.startswith("begun ")]
        return [int(line.split()[2]) for line in begun]

    def answers(self) -> set[int]:
        """Ask by many connections; tell who answered."""
        places = set()
        for _ in range(40):
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                places.add(int(connection.makefile().readline()))
        return places


def seen(happened: Callable[[], bool], log: Path) -> None:
    """Wait until it has happened."""
    until = time.monotonic() + SEEN_S_MAX
    while not happened():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def parent(folder: Path, port: int, stop_s: float = 10.0) -> Iterator[Parent]:
    """Begin one; whatever the test does, it and its processes are ended."""
    (folder / "process.py").write_text(PROCESS)
    log = folder / f"log-{time.monotonic_ns()}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder)}
    command = [sys.executable, "-c", PARENT, str(port), str(stop_s)]
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, env=env, cwd=folder, stdout=out, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        ours = Parent(process, port, log)
        try:
            yield ours
        finally:
            process.kill()
            for pid in ours.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Parent]:
    """Two processes that serve."""
    with parent(tmp_path, free_port()) as ours:
        ours.says("serves", 2)
        yield ours


def test_two_processes_share_one_port(two: Parent) -> None:
    """The kernel deals connections out, and both answer."""
    assert two.answers() == {1, 2}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_stop_is_told_to_each_process_once_and_ends_with_0(
    two: Parent, tmp_path: Path, number: signal.Signals
) -> None:
    """Nothing is left: no process, no folder, no port."""
    two.process.send_signal(number)
    assert two.process.wait(SEEN_S_MAX) == 0
    assert len(two.said("told")) == 2
    assert not any(lives(pid) for pid in two.pids())
    assert not list(tmp_path.glob("flashsale-*"))
    claim_port("127.0.0.1", two.port, "FLASHSALE_HTTP_PORT")


def test_a_process_that_dies_is_begun_again_in_its_place(two: Parent) -> None:
    """While it is away, nobody who comes waits behind it."""
    os.kill(two.pids()[1], signal.SIGKILL)
    [line] = two.says("begun again", 1)
    assert '"process": 2' in line
    assert '"ended": -9' in line
    assert two.answers() <= {1, 2}
    two.says("serves 2", 2)
    assert two.answers() == {1, 2}
    assert len(two.pids()) == 3


def test_processes_end_with_their_parent_however_it_died(two: Parent) -> None:
    """They hold the port: whoever begins the parent again must get it."""
    two.process.kill()
    seen(lambda: not any(lives(pid) for pid in two.pids()), two.log)
    assert len(two.said("told")) == 2
    claim_port("127.0.0.1", two.port, "FLASHSALE_HTTP_PORT")


def test_a_start_that_fails_ends_it_all_with_its_own_code_and_words(tmp_path: Path) -> None:
    """Said once, and not by each."""
    (tmp_path / "fails").touch()
    with parent(tmp_path, free_port()) as ours:
        assert ours.process.wait(SEEN_S_MAX) == 3
        assert len(ours.said("it cannot begin")) == 1
        assert len(ours.pids()) == 1


def test_a_start_that_fails_while_another_process_serves_is_tried_again(
    two: Parent, tmp_path: Path
) -> None:
    """The other goes on selling; when the cause is gone, both do."""
    (tmp_path / "fails").touch()
    os.kill(two.pids()[0], signal.SIGKILL)
    assert '"ended": 3' in two.says("begun again", 3)[-1]
    assert two.answers() == {2}
    (tmp_path / "fails").unlink()
    two.says("serves 1", 2)
    assert two.answers() == {1, 2}


def test_a_port_that_another_program_has_is_an_error(tmp_path: Path) -> None:
    """Before anything begins."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        with parent(tmp_path, other.getsockname()[1]) as ours:
            assert ours.process.wait(SEEN_S_MAX) == 1
        assert len(ours.said("is in use by another program")) == 1
        assert ours.pids() == []


def test_two_parents_never_share_a_port(two: Parent, tmp_path: Path) -> None:
    """Though their processes may: buyers would be shared in silence."""
    with parent(tmp_path, two.port) as second:
        assert second.process.wait(SEEN_S_MAX) == 1
        assert len(second.said("is in use by another program")) == 1


def test_two_parents_that_begin_together_never_share_a_port(tmp_path: Path) -> None:
    """Also while none of their processes listens yet."""
    port = free_port()
    with parent(tmp_path, port) as first, parent(tmp_path, port) as second:
        seen(lambda: bool(first.said("serves 2") or second.said("serves 2")), first.log)
        both = [first, second]
        seen(lambda: any(one.process.poll() is not None for one in both), first.log)
        assert [len(one.said("serves")) for one in both] in ([2, 0], [0, 2])


def test_a_process_that_does_not_end_is_ended_in_time(tmp_path: Path) -> None:
    """And the exit code says that not all went well."""
    (tmp_path / "hangs").touch()
    with parent(tmp_path, free_port(), stop_s=0.5) as ours:
        ours.says("serves", 2)
        ours.process.send_signal(signal.SIGTERM)
        assert ours.process.wait(SEEN_S_MAX) == 1
        assert not any(lives(pid) for pid in ours.pids())


def test_the_second_signal_ends_them_all_now(tmp_path: Path) -> None:
    """As it ends a process that is alone."""
    (tmp_path / "hangs").touch()
    with parent(tmp_path, free_port()) as ours:
        ours.says("serves", 2)
        ours.process.send_signal(signal.SIGTERM)
        ours.says("told", 2)
        ours.process.send_signal(signal.SIGINT)
        assert ours.process.wait(3) == -signal.SIGINT
        seen(lambda: not any(lives(pid) for pid in ours.pids()), ours.log)
        assert not list(tmp_path.glob("flashsale-*"))


def test_a_socket_that_is_only_bound_gets_no_connection() -> None:
    """Who connects meanwhile is refused, and does not wait for a start."""
    with bound("127.0.0.1", 0) as listener:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname(), 5)
        listener.listen()
        socket.create_connection(listener.getsockname(), 5).close()


def test_a_host_that_is_not_ours_is_named() -> None:
    """As it is without siblings."""
    with pytest.raises(StartFailed, match=r"nobody can listen on 192\.0\.2\.1"):
        bound("192.0.2.1", 8080)


def test_what_was_handed_over_is_read_once() -> None:
    """A process of our own process must not believe that it is one of several."""
    one = OneOfSeveral(place=2, listener=5, line=6, folder=Path("/somewhere"))
    environment = one.variable()
    got = one_of_several(environment)
    assert got is not None
    assert (got.place, got.listener, got.line, got.folder) == (2, 5, 6, Path("/somewhere"))
    assert VARIABLE not in environment
    assert one_of_several(environment) is None
