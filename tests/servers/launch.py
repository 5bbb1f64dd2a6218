"""Start, stop and find the servers: what all of them have in common.

A server comes from the first of these that is there:

1. a URL in the environment (somebody else's server: it is used, never stopped),
2. a container, where a Docker engine answers,
3. the local binary, on free loopback ports, in a private temporary folder.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import attrs
import mirakuru.base
from mirakuru.exceptions import ProcessExitedWithError, ProcessFinishedWithError, TimeoutExpired

from tests.servers import keeper

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

HOST = "127.0.0.1"
OTHER_HOST = "127.0.0.2"
"""Loopback too, and named by no certificate."""
START_S_MAX = 90
STOP_S_MAX = 20
LOG_TAIL_CHARACTERS = 2000
# Below the range from which Linux takes ports for outgoing connections: a client that knocks on
# the port of a stopped server must not take that port itself, nor connect to itself.
PORTS = range(18000, 32000)
_our_ports: set[int] = set()
_claims: int | None = None
_one_at_a_time = threading.Lock()
# At its end, mirakuru kills every process whose mark has our process id's digits anywhere in it,
# other runs' servers with them. Ours are ended by `Daemon.stop`, or by the keeper.
atexit.unregister(mirakuru.base.cleanup_subprocesses)

# What was really used in this process, for the summary at the end of a test run.
used: dict[str, str] = {}


class ServerMissing(Exception):
    """A server can be neither found nor started; says why and what mends it."""

    def __init__(self, kind: str, reason: str, fix: str) -> None:
        """Name the server, the reason, and the command that mends it."""
        super().__init__(f"no {kind}: {reason}. Fix: {fix}")
        self.kind = kind
        self.reason = reason
        self.fix = fix


class ServerNotOurs(Exception):
    """The server belongs to somebody else and must not be stopped from here."""


class Runner(Protocol):
    """What can start and stop one server, on the same port and data every time."""

    def start(self) -> object:
        """Start the server and return once it answers."""

    def stop(self) -> object:
        """End the server in good order and return once it is gone."""

    def kill(self) -> object:
        """End the server at once, as a power cut would."""

    def freeze(self) -> None:
        """Stop the server's clock: connections stay open, nothing is answered."""

    def thaw(self) -> None:
        """Let a frozen server go on."""


@attrs.define(kw_only=True)
class Server:
    """A server that answers at `url`; stop, start and kill keep its port and its data."""

    kind: str
    url: str
    origin: str
    runner: Runner | None = attrs.field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The address that the server listens on."""
        return urlsplit(self.url).hostname or HOST

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        port = urlsplit(self.url).port
        if port is None:
            message = f"the URL of {self.kind} names no port: {self.url}"
            raise ValueError(message)
        return port

    def start(self) -> None:
        """Start the server again, on the same port and data."""
        self._ours().start()

    def stop(self) -> None:
        """End the server in good order."""
        self._ours().stop()

    def kill(self) -> None:
        """End the server at once (SIGKILL)."""
        self._ours().kill()

    def freeze(self) -> None:
        """Let the server hang: its connections stay open and nothing is answered."""
        self._ours().freeze()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._ours().thaw()

    def _ours(self) -> Runner:
        if self.runner is None:
            message = (
                f"{self.kind} at {self.host}:{self.port} is shared ({self.origin}); a test that "
                f"stops a server starts one of its own: running_{self.kind}(ours=True)"
            )
            raise ServerNotOurs(message)
        return self.runner


AnyServer = TypeVar("AnyServer", bound=Server)


@contextlib.contextmanager
def running(
    kind: str,
    *,
    ours: bool,
    attach: Callable[[str, str], AnyServer],
    container: Callable[[], AnyServer],
    local: Callable[[], AnyServer],
) -> Iterator[AnyServer]:
    """Yield a started server by the rule in the module's docstring and stop it if it is ours."""
    variable = f"FLASHSALE_TEST_{kind.upper()}_URL"
    url = os.environ.get(variable)
    if url and not ours:
        server = attach(url, variable)
        used[kind] = server.origin
        yield server
        return
    server = container() if docker_answers() else local()
    if server.runner is None:
        message = f"{kind} was built without its runner"
        raise RuntimeError(message)
    runner = server.runner
    try:
        runner.start()
        used[kind] = server.origin
        yield server
    finally:
        runner.thaw()
        runner.stop()


class Daemon(mirakuru.Executor):
    """A local server process in its own process group, with its output in a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        ready: Callable[[], bool],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> None:
        """Describe the process; `user` is whom root hands it to."""
        self.log = folder / "output.log"
        self.folder = folder
        self._ready = ready
        self._output: IO[str] | None = None
        become = {"user": user, "group": user, "extra_groups": []} if user else {}
        super().__init__(
            list(command),
            cwd=str(folder),
            timeout=START_S_MAX,
            sleep=0.05,
            stop_signal=stop_signal,
            envvars=dict(environment or {}),
            stdin=subprocess.DEVNULL,
            popen_kwargs=become,
        )

    def start(self) -> Daemon:
        """Start and wait for the first answer; on failure quote the end of the output."""
        if self.running():
            return self
        # A pipe would fill up and block the server.
        self._output = self.log.open("a")
        self._stdout = self._stderr = self._output
        self._timeout = START_S_MAX
        keeper.watch(self._uuid, self.folder)
        try:
            super().start()
        except (TimeoutExpired, ProcessExitedWithError) as exc:
            tail = self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
            message = f"{self.command_parts[0]} did not start ({exc}); its last words:\n{tail}"
            raise RuntimeError(message) from exc
        return self

    def pre_start_check(self) -> bool:
        """Say no: the port was free when it was chosen, and ours since."""
        return False

    def after_start_check(self) -> bool:
        """Tell whether the server answers by now."""
        try:
            return self._ready()
        except OSError:
            return False

    def stop(self, *_: Any, **__: Any) -> Daemon:
        """End the process and what it left behind (RabbitMQ's epmd), by their ids."""
        self._timeout = STOP_S_MAX
        # Java ends with 143, which is no failure.
        with contextlib.suppress(ProcessFinishedWithError):
            super().stop()
        self._close_output()
        return self

    def kill(self, wait: bool = True, sig: int | None = None) -> Daemon:  # noqa: FBT002
        """End the process at once; the signature is mirakuru's."""
        super().kill(wait=wait, sig=sig)
        self._close_output()
        return self

    def freeze(self) -> None:
        """Send SIGSTOP to the process group, and wait until every thread of it stands still."""
        self._signal_group(signal.SIGSTOP)
        if self.process is not None and self.running():
            until = time.monotonic() + STOP_S_MAX
            while not _stands_still(self.process.pid):
                if time.monotonic() > until:
                    raise TimeoutError(f"process group {self.process.pid} does not stop")
                time.sleep(0.01)

    def thaw(self) -> None:
        """Send SIGCONT to the process group."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        if self.process is not None and self.running():
            os.killpg(self.process.pid, number)

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None


class Container:
    """A server in a container whose published port stays the same over restarts."""

    def __init__(self, container: DockerContainer, ready: Callable[[], bool]) -> None:
        """Take a container that is described but not started."""
        self._container = container
        self._ready = ready
        self._created = False
        self._frozen = False

    def start(self) -> None:
        """Create the container, or start it again, and wait for the first answer."""
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
            atexit.register(self.remove)
        wait_until(self._ready, f"the container of {self._container.image}")

    def stop(self) -> None:
        """Stop the container and keep its data."""
        self._container.get_wrapped_container().stop(timeout=STOP_S_MAX)

    def kill(self) -> None:
        """Kill the container and keep its data."""
        self._container.get_wrapped_container().kill()

    def freeze(self) -> None:
        """Pause all processes of the container."""
        self._container.get_wrapped_container().pause()
        self._frozen = True

    def thaw(self) -> None:
        """Let the processes go on."""
        if self._frozen:
            self._container.get_wrapped_container().unpause()
            self._frozen = False

    def remove(self) -> None:
        """Remove the container with its data."""
        self._container.stop()


@functools.cache
def docker_answers() -> bool:
    """Tell whether a Docker engine answers; asked once per process."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if address.startswith("unix://"):
        # Docker's client does not close its socket when nobody is there.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(address.removeprefix("unix://")):
                return False
    try:
        import docker  # noqa: PLC0415  (optional, and slow to import)
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=3)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except Exception:  # noqa: BLE001  (whatever is wrong with the engine, we go on without it)
        return False
    finally:
        client.close()


def container(image: str, port_inside: int, port: int, **environment: str) -> DockerContainer:
    """Describe a container that publishes one port on the loopback address only."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  (needed with Docker only)

    described = DockerContainer(image)
    # Docker's client takes a pair of address and port here, testcontainers' types do not say so.
    described.ports[str(port_inside)] = (HOST, port)  # type: ignore[assignment]
    for name, value in environment.items():
        described.with_env(name, value)
    return described


def free_port() -> int:
    """Return a loopback port that nobody listens on, that no client is given, and that is ours.

    It stays ours until this process ends: no other run of the tests gets it while a server of
    ours is down, or before it has begun to listen.
    """
    while True:
        port = random.SystemRandom().choice(PORTS)
        if port in _our_ports or not _claim(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


def _claim(port: int) -> bool:
    """Lock the port's byte in a file that all runs share; the lock ends with the process."""
    global _claims  # noqa: PLW0603  (closing any handle of the file would end all its locks)
    with _one_at_a_time:
        if _claims is None:
            shared = Path(tempfile.gettempdir()) / f"flashsale-ports-{os.getuid()}"
            _claims = os.open(shared, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except BlockingIOError:
            return False
        _our_ports.add(port)
        return True


def private_folder(kind: str) -> Path:
    """Make a temporary folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"flashsale-{kind}-"))
    # PostgreSQL runs as another user and must be able to walk through.
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def program(kind: str, names: Sequence[str], package: str) -> str:
    """Return the path of the first program that is installed, or raise `ServerMissing`."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    either = " or ".join(dict.fromkeys(Path(name).name for name in names))
    raise ServerMissing(kind, f"{either} is not installed", install(package))


def install(package: str) -> str:
    """Return the command that installs what `make test` would install."""
    return f"make test as root, or: apt-get install --no-install-recommends {package}"


def connection(port: int) -> socket.socket:
    """Connect to a loopback port; the caller closes."""
    return socket.create_connection((HOST, port), timeout=2)


def receive(peer: socket.socket, size: int) -> bytes:
    """Read `size` bytes, or what came before the peer closed."""
    received = b""
    while len(received) < size:
        piece = peer.recv(size - len(received))
        if not piece:
            break
        received += piece
    return received


def answers(port: int, question: bytes, begin: bytes) -> bool:
    """Tell whether a server on a port answers a question with the given first bytes."""
    with connection(port) as peer:
        peer.sendall(question)
        return receive(peer, len(begin)) == begin


def wait_until(ready: Callable[[], bool], what: str, seconds_max: float = START_S_MAX) -> None:
    """Wait until `ready` says so; errors of the network count as not yet."""
    end = time.monotonic() + seconds_max
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if ready():
                return
        time.sleep(0.05)
    message = f"{what} did not answer within {seconds_max:.0f} s"
    raise RuntimeError(message)


def _stands_still(group: int) -> bool:
    """Say whether all threads of a process group are stopped, or gone."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) != group:
                continue
            states = [(task / "stat").read_text() for task in (process / "task").iterdir()]
        except (OSError, ValueError):
            continue
        if any(state.rpartition(") ")[2][0] not in "TtZX" for state in states):
            return False
    return True
