"""`flashsale run`, `serve` and `worker`: the programs that go on until they are stopped."""

import sys
from typing import Annotated

import structlog
from cyclopts import Parameter

from flashsale.logs import Form, set_up_logging
from flashsale.one_of_several import one_of_several
from flashsale.settings import Entrypoint, Settings, secrets_of
from flashsale.settings_loading import SettingsError, load_settings

Port = Annotated[
    int | None, Parameter(name="--port", help="Port of the HTTP API (FLASHSALE_HTTP_PORT).")
]
Host = Annotated[
    str | None, Parameter(name="--host", help="Host that it listens on (FLASHSALE_HTTP_HOST).")
]
Logs = Annotated[
    Form, Parameter(name="--logs", help="How log lines are written on standard error.")
]


def run(*, host: Host = None, port: Port = None, logs: Logs = Form.AUTO) -> int:
    """Run the HTTP API and a worker in one process. Without any setting it needs no server.

    Ctrl-C stops it: nothing new is taken, and what is in hand is brought to its end.

    Example: `flashsale run --port 8090`
    """
    return _begin(Entrypoint.RUN, {"http_host": host, "http_port": port}, logs)


def serve(
    *,
    host: Host = None,
    port: Port = None,
    processes: Annotated[
        int | None,
        Parameter(
            name="--processes",
            help="How many processes share the port (FLASHSALE_HTTP_PROCESSES).",
        ),
    ] = None,
    logs: Logs = Form.AUTO,
) -> int:
    """Run the HTTP API alone; any number of these and of workers share a gate and a bus.

    With `--processes` several of them listen on one port, and `/metrics` is their sum.

    Example: `flashsale serve --port 8080 --processes 2`
    """
    overrides: dict[str, object] = {
        "http_host": host,
        "http_port": port,
        "http_processes": processes,
    }
    one = one_of_several()
    if one is not None:
        one.follow_parent()
        structlog.contextvars.bind_contextvars(process=one.place)
        settings = _ready_to_log(Entrypoint.SERVE, overrides, logs)
        from flashsale import running  # noqa: PLC0415 - the parent must not load it

        return running.serve(settings, one)
    if not _are_several(overrides):
        return _begin(Entrypoint.SERVE, overrides, logs)
    # The parent opens nothing, so it loads nothing either: its processes judge the settings.
    settings = _ready_to_log(Entrypoint.COMMAND, overrides, logs)
    from flashsale.several import serve_several  # noqa: PLC0415 - Linux's

    typed = {"--host": host, "--port": port, "--processes": processes, "--logs": logs.value}
    options = [f"{name}={value}" for name, value in typed.items() if value is not None]
    return serve_several(settings, [sys.executable, "-m", "flashsale", "serve", *options])


def _are_several(overrides: dict[str, object]) -> bool:
    """Say whether several processes are wanted, of settings that may be wrong in other ways."""
    try:
        return load_settings(Entrypoint.COMMAND, overrides).http_processes > 1
    except SettingsError:
        # A process alone says all that is wrong.
        return False


def worker(
    *,
    http: Annotated[
        str | None,
        Parameter(name="--http", help="Host and port of its health and metrics page."),
    ] = None,
    logs: Logs = Form.AUTO,
) -> int:
    """Run a worker: accepted and outside purchases become orders, events are told.

    Example: `flashsale worker --http 127.0.0.1:8081`
    """
    return _begin(Entrypoint.WORKER, {"worker_http": http}, logs)


def _begin(entrypoint: Entrypoint, overrides: dict[str, object], logs: Form) -> int:
    settings = _ready_to_log(entrypoint, overrides, logs)
    # Here and not above: `flashsale --help` must not load what only a process needs.
    from flashsale import running  # noqa: PLC0415 - see above

    programs = {
        Entrypoint.RUN: running.run,
        Entrypoint.SERVE: running.serve,
        Entrypoint.WORKER: running.worker,
    }
    return programs[entrypoint](settings)


def _ready_to_log(entrypoint: Entrypoint, overrides: dict[str, object], logs: Form) -> Settings:
    settings = load_settings(entrypoint, overrides)
    set_up_logging(settings.log_level.value, form=logs, secrets=secrets_of(settings))
    return settings


COMMANDS = (run, serve, worker)
