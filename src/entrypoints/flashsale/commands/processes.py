"""`flashsale run`, `serve` and `worker`: the programs that go on until they are stopped."""

from typing import Annotated

from cyclopts import Parameter

from flashsale.logs import Form, set_up_logging
from flashsale.settings import Entrypoint, secrets_of
from flashsale.settings_loading import load_settings

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


def serve(*, host: Host = None, port: Port = None, logs: Logs = Form.AUTO) -> int:
    """Run the HTTP API alone; any number of these and of workers share a gate and a bus.

    Example: `flashsale serve --port 8080`
    """
    return _begin(Entrypoint.SERVE, {"http_host": host, "http_port": port}, logs)


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
    settings = load_settings(entrypoint, overrides)
    set_up_logging(settings.log_level.value, form=logs, secrets=secrets_of(settings))
    # Here and not above: `flashsale --help` must not load what only a process needs.
    from flashsale import running  # noqa: PLC0415 - see above

    programs = {
        Entrypoint.RUN: running.run,
        Entrypoint.SERVE: running.serve,
        Entrypoint.WORKER: running.worker,
    }
    return programs[entrypoint](settings)


COMMANDS = (run, serve, worker)
