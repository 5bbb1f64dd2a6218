"""`flashsale serve --processes N`: a parent that begins N processes on one port, and keeps them.

The parent serves nobody and opens nothing but sockets. Each process has a socket of its own on
the port (SO_REUSEPORT), which the kernel deals connections out to. The parent binds it, so that a
port is taken before anything begins; the process listens when it can serve, so that nobody waits
behind one that is dead or still beginning.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from flashsale.one_of_several import OneOfSeveral
from flashsale.settings import Settings
from flashsale.starting import StartFailed, claim_port, port_problem
from flashsale.stopping import API_STOP_S
from flashsale.supervision import QUIET_S, Backoff

PORT_SETTING = "FLASHSALE_HTTP_PORT"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class NobodyServes(Exception):
    """A process failed at its start while no other served; it has said why itself."""

    def __init__(self, code: int) -> None:
        """Keep how it ended: an exit code, or a signal as a negative number."""
        super().__init__(code)
        self.code = code


def serve_several(settings: Settings, command: Sequence[str]) -> int:
    """Run `command` as often as the settings say until a signal; answer the exit code."""
    host, port = settings.http_host, settings.http_port
    try:
        with _only_parent(host, port), _folder() as folder:
            claim_port(host, port, PORT_SETTING)
            return asyncio.run(Several(settings, command, folder).run())
    except StartFailed as failed:
        sys.stderr.write(f"flashsale: {failed}\n")
        return 1
    except NobodyServes as failed:
        if failed.code < 0:
            name = signal.Signals(-failed.code).name
            sys.stderr.write(f"flashsale: a process was ended by {name} before it served\n")
        return max(failed.code, 1)


class Several:
    """The processes by their places; each that ends is begun again, until the stop."""

    def __init__(self, settings: Settings, command: Sequence[str], folder: Path) -> None:
        """Take what to run; `folder` is for what the processes share."""
        self._settings = settings
        self._command = command
        self._folder = folder
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._serving: set[int] = set()
        self._stopping = asyncio.Event()
        self._codes: list[int] = []
        self._log = structlog.get_logger("flashsale").bind(program="serve")

    async def run(self) -> int:
        """Keep them until a signal; answer 0 when all of them ended well.

        Raises StartFailed, and NobodyServes.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stop)
        first, failed = asyncio.Event(), []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(1, first))
                # What is wrong with a start is so said once, and not by all.
                await first.wait()
                for place in range(2, self._settings.http_processes + 1):
                    group.create_task(self._keep(place, asyncio.Event()))
        except* (NobodyServes, StartFailed) as failures:
            failed = list(failures.exceptions)
        finally:
            self._signal(signal.SIGKILL)
        if failed:
            raise failed[0]
        return 0 if all(code in (0, -signal.SIGTERM) for code in self._codes) else 1

    async def _keep(self, place: int, serves: asyncio.Event) -> None:
        """Have a process in this place until the stop."""
        settings, loop = self._settings, asyncio.get_running_loop()
        backoff = Backoff(initial_ms=settings.backoff_initial_ms, max_ms=settings.backoff_max_ms)
        try:
            while not self._stopping.is_set():
                began = loop.time()
                ended = await self._life(place, serves)
                if self._stopping.is_set():
                    return
                if loop.time() - began > QUIET_S:
                    backoff.reset()
                wait_s = backoff.next_wait_s()
                self._log.error(
                    "process ended, begun again", process=place, ended=ended, wait_s=wait_s
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait_s)
        finally:
            serves.set()

    async def _life(self, place: int, serves: asyncio.Event) -> int | str:
        """Have one process live; answer how it ended.

        Raises StartFailed and NobodyServes for one that never served, where no other does.
        """
        try:
            code, has_served = await self._live(place, serves)
        except (OSError, StartFailed) as failed:
            if self._serving:
                return str(failed)
            raise StartFailed(str(failed)) from failed
        if self._stopping.is_set():
            self._codes.append(code)
        elif not has_served and not self._serving:
            raise NobodyServes(code)
        return code

    async def _live(self, place: int, serves: asyncio.Event) -> tuple[int, bool]:
        """Begin a process, and see it to its end; answer its code, and whether it ever served."""
        line, its_line = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=line)
        with its_line, bound(self._settings.http_host, self._settings.http_port) as listener:
            one = OneOfSeveral(
                place=place,
                listener=listener.fileno(),
                line=its_line.fileno(),
                folder=self._folder,
            )
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **one.variable()},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(one.listener, one.line),
                # Ctrl-C is for the parent, which tells each process once.
                start_new_session=True,
            )
        self._processes[place] = process
        try:
            if self._stopping.is_set():
                process.terminate()
            has_served = bool(await reader.read(1))
            if has_served:
                self._serving.add(place)
                serves.set()
            return await process.wait(), has_served
        finally:
            self._serving.discard(place)
            writer.close()
            if process.returncode is not None:
                del self._processes[place]

    def _stop(self) -> None:
        """Tell each process once, and end what has not ended in its time."""
        self._stopping.set()
        self._log.info("stopping", processes=len(self._processes))
        self._signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        loop.call_later(API_STOP_S, self._signal, signal.SIGKILL)
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stop_now, number)

    def _stop_now(self, number: signal.Signals) -> None:
        """End everything at once, as the second signal asks of every program."""
        self._signal(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


def bound(host: str, port: int) -> socket.socket:
    """Bind a socket that may share its port, not listening yet. Raises StartFailed."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(where)
        except OSError:
            listener.close()
            raise
    except OSError as exc:
        raise StartFailed(port_problem(host, port, PORT_SETTING, exc)) from exc
    return listener


@contextmanager
def _only_parent(host: str, port: int) -> Iterator[None]:
    """Be the only parent on this port, also while none of its processes listens yet.

    Two would otherwise share the port in silence, and its buyers. An abstract name belongs to the
    same network namespace as the port, and ends with its process.
    """
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0flashsale-serve-{port}-{host[:64]}")
        except OSError as exc:
            raise StartFailed(port_problem(host, port, PORT_SETTING, exc)) from exc
        yield


@contextmanager
def _folder() -> Iterator[Path]:
    """Have a folder that is nobody else's; held, so that no sweeper of old files takes it away."""
    try:
        folder = tempfile.mkdtemp(prefix="flashsale-serve-")
    except OSError as exc:
        raise StartFailed(f"several processes need a folder to share (TMPDIR): {exc}") from exc
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield Path(folder)
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)
