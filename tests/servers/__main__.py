"""`make servers`: start every server, print where they are, stop them on Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests import servers
from tests.servers import launch, maven
from tests.servers.shared import STARTERS


def main(arguments: list[str]) -> int:
    """Run the servers, or `fetch` what they need; return the exit code."""
    if arguments == ["fetch"]:
        return _fetch()
    if arguments:
        print("usage: python -m tests.servers [fetch]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), ExitStack() as running:
        print("Starting Redis, PostgreSQL, RabbitMQ, Kafka and the registry …", file=sys.stderr)
        begin = time.monotonic()
        try:
            urls = _start(running)
        except servers.ServerMissing as missing:
            print(missing, file=sys.stderr)
            return 1
        print(f"Ready after {time.monotonic() - begin:.0f} s; Ctrl-C stops them.", file=sys.stderr)
        print(f"export FLASHSALE_GATE_URL={urls['redis']}")
        print(f"export FLASHSALE_BUS_URL={urls['kafka']}")
        print(f"# or: export FLASHSALE_BUS_URL={urls['rabbitmq']}")
        print(f"export FLASHSALE_DATABASE_URL={urls['postgres']}")
        print(f"export FLASHSALE_SCHEMA_REGISTRY_URL={urls['registry']}", flush=True)
        threading.Event().wait()
    return 0


def _start(running: ExitStack) -> dict[str, str]:
    """Start all at once: most of the time each waits for itself."""
    entered = {kind: starter() for kind, starter in STARTERS.items()}
    with ThreadPoolExecutor(len(entered)) as pool:
        starting = {kind: pool.submit(one.__enter__) for kind, one in entered.items()}
        failed: Exception | None = None
        urls = {}
        for kind, future in starting.items():
            try:
                urls[kind] = future.result().url
            except Exception as exc:  # noqa: BLE001  (raised below, once the others are known)
                failed = failed or exc
            else:
                running.push(entered[kind].__exit__)
    if failed:
        raise failed
    return urls


def _fetch() -> int:
    try:
        # Kafka's jars are wanted beside a container too: for TLS, and for Java's clients.
        print(f"Kafka {maven.KAFKA_VERSION}: {maven.kafka_libraries()}")
        if not launch.docker_answers():
            print(f"Apicurio Registry {maven.REGISTRY_VERSION}: {maven.registry_jar().parent}")
    except servers.ServerMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
