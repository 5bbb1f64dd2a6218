"""PostgreSQL, as shipped: fsync on, every commit on disk."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from tests.servers import launch
from tests.servers.authority import Authority
from tests.servers.launch import HOST

IMAGE = "postgres:16"
DATABASE = "flashsale"
# initdb and postgres refuse root.
UNPRIVILEGED = "postgres"


@attrs.define(kw_only=True)
class Postgres(launch.Server):
    """A PostgreSQL server; `url` is `postgresql+asyncpg://postgres@127.0.0.1:PORT/flashsale`.

    With TLS, `ca` is the file of its authority, and 127.0.0.2 an address that no certificate names.
    """

    ca: Path | None = None

    @property
    def dsn(self) -> str:
        """The URL in the form that asyncpg and libpq take."""
        return self.url.replace("+asyncpg", "")

    def create_database(self, prefix: str = "test") -> str:
        """Create an empty database of its own and return its URL."""
        name = f"{prefix}_{uuid.uuid4().hex[:12]}"
        _sql(self.dsn, f'CREATE DATABASE "{name}"')
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def drop_database(self, url: str) -> None:
        """Drop a database that `create_database` made, whoever is connected."""
        name = urlsplit(url).path.lstrip("/")
        _sql(self.dsn, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def running_postgres(
    *, ours: bool = False, tls: bool = False, folder: Path | None = None
) -> AbstractContextManager[Postgres]:
    """Yield a running PostgreSQL; `ours` starts one that the test may stop and kill.

    `folder` is where a local one keeps everything; the caller made it, and removes it.
    """
    local = functools.partial(_local, folder, tls=tls)
    # The image would need the authority's files inside; the local one takes them as are.
    container = local if tls else _container
    return launch.running(
        "postgres", ours=ours or tls, attach=attach, container=container, local=local
    )


def attach(url: str, origin: str) -> Postgres:
    """Describe a PostgreSQL that somebody else runs."""
    return Postgres(kind="postgres", url=url, origin=origin)


def _container() -> Postgres:
    port = launch.free_port()
    described = launch.container(
        IMAGE, 5432, port, POSTGRES_HOST_AUTH_METHOD="trust", POSTGRES_DB=DATABASE
    )
    runner = launch.Container(described, lambda: _ready(port))
    return Postgres(kind="postgres", url=_url(port), origin=f"container {IMAGE}", runner=runner)


def _local(given: Path | None = None, *, tls: bool = False) -> Postgres:
    binary = launch.program("postgres", _candidates(), "postgresql")
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    port, folder = launch.free_port(), given or launch.private_folder("postgres")
    if user:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    _initialise(Path(binary).with_name("initdb"), data, user)
    ca = None
    command = [binary, "-D", str(data), "-h", HOST, "-p", str(port), "-k", str(folder)]
    if tls:
        authority = Authority(folder)
        ca, pem = authority.certificate, authority.server_pem()
        if user:
            shutil.chown(pem, user)
        pem.chmod(0o600)
        command += ["-h", f"{HOST},{launch.OTHER_HOST}", "-c", "ssl=on"]
        command += ["-c", f"ssl_cert_file={pem}", "-c", f"ssl_key_file={pem}"]
    runner = _PostgresDaemon(
        command,
        ready=lambda: _ready(port),
        folder=folder,
        # "Fast": open transactions are rolled back, nobody is waited for.
        stop_signal=signal.SIGINT,
        user=user,
    )
    return Postgres(kind="postgres", url=_url(port), origin=binary, runner=runner, ca=ca)


class _PostgresDaemon(launch.Daemon):
    """The server, whose backends leave its process group and so are not reached by killpg."""

    def kill(self, wait: bool = True, sig: int | None = None) -> _PostgresDaemon:  # noqa: FBT002
        """End all processes at once; a backend left over would keep the server from starting."""
        backends = self._backends()
        super().kill(wait=wait, sig=sig)
        _signal(backends, signal.SIGKILL)
        return self

    def freeze(self) -> None:
        """Send SIGSTOP to the server first, so that no new backend escapes."""
        super().freeze()
        _signal(self._backends(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT to all processes."""
        _signal(self._backends(), signal.SIGCONT)
        super().thaw()

    def _backends(self) -> list[int]:
        if self.process is None or not self.running():
            return []
        number = self.process.pid
        return [
            int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()
        ]


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _candidates() -> list[str]:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    return [*map(str, debian), "postgres"]


def _initialise(initdb: Path, data: Path, user: str | None) -> None:
    command = [str(initdb), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"]
    command += ["--encoding=UTF8", "--locale=C.UTF-8"]
    if user:
        command = ["runuser", "-u", user, "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        message = f"initdb failed: {done.stderr[-launch.LOG_TAIL_CHARACTERS :]}"
        raise RuntimeError(message)


def _ready(port: int) -> bool:
    """Create our database if need be: that proves more than an open port."""
    server = f"postgresql://postgres@{HOST}:{port}/"
    done = _psql(server + "postgres", f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'")
    if done.returncode:
        return False
    if not done.stdout.strip():
        return _psql(server + "postgres", f"CREATE DATABASE {DATABASE}").returncode == 0
    return True


def _sql(dsn: str, statement: str) -> None:
    done = _psql(dsn, statement)
    if done.returncode:
        raise RuntimeError(done.stderr)


def _psql(dsn: str, statement: str) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("psql")
    if binary is None:
        raise launch.ServerMissing(
            "postgres", "psql is not installed", launch.install("postgresql-client")
        )
    return subprocess.run(
        [binary, "-X", "-q", "-A", "-t", "-c", statement, dsn],
        capture_output=True,
        text=True,
        check=False,
    )


def _url(port: int) -> str:
    return f"postgresql+asyncpg://postgres@{HOST}:{port}/{DATABASE}"
