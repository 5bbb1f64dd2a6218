"""RabbitMQ, one node with its own name server (epmd)."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from tests.servers import launch
from tests.servers.authority import Authority
from tests.servers.launch import HOST

IMAGE = "rabbitmq:4.0"
# An AMQP 0-9-1 client begins with this; a server that is up answers with a method frame (1) on
# channel 0.
GREETING = b"AMQP\x00\x00\x09\x01"
ANSWER = b"\x01\x00\x00"


CONTROL_S_MAX = 60


@attrs.define(kw_only=True)
class RabbitMQ(launch.Server):
    """A RabbitMQ node; `url` is `amqp://guest:guest@127.0.0.1:PORT/`.

    With TLS, `tls_url` is another listener's, under the authority in the file `ca`.
    """

    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    tls_url: str | None = None
    ca: Path | None = None

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against a node of our own."""
        done = subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=CONTROL_S_MAX,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout


def running_rabbitmq(*, ours: bool = False, tls: bool = False) -> AbstractContextManager[RabbitMQ]:
    """Yield a running RabbitMQ; `ours` starts one that the test may stop and kill."""
    local = functools.partial(_local, tls=tls)
    # The image would need the authority's files inside; the local one takes them as are.
    container = local if tls else _container
    return launch.running(
        "rabbitmq", ours=ours or tls, attach=attach, container=container, local=local
    )


def attach(url: str, origin: str) -> RabbitMQ:
    """Describe a RabbitMQ that somebody else runs."""
    return RabbitMQ(kind="rabbitmq", url=url, origin=origin)


def _container() -> RabbitMQ:
    port = launch.free_port()
    # The data's folder carries the node's name, which is the container's host name.
    described = launch.container(IMAGE, 5672, port, RABBITMQ_NODENAME="rabbit@localhost")
    runner = launch.Container(described, lambda: _ready(port))
    return RabbitMQ(kind="rabbitmq", url=_url(port), origin=f"container {IMAGE}", runner=runner)


def _local(*, tls: bool = False) -> RabbitMQ:
    # Not the wrapper in sbin, which switches the user.
    inner = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    binary = launch.program("rabbitmq", [inner, "rabbitmq-server"], "rabbitmq-server")
    port, folder = launch.free_port(), launch.private_folder("rabbitmq")
    plugins = folder / "enabled_plugins"
    plugins.write_text("[].\n")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"flashsale-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(launch.free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(launch.free_port()),
        "ERL_EPMD_ADDRESS": HOST,
    }
    tls_url, ca = None, None
    if tls:
        tls_port, authority = launch.free_port(), Authority(folder)
        ca, tls_url = authority.certificate, f"amqps://guest:guest@{HOST}:{tls_port}/"
        configuration = folder / "rabbitmq.conf"
        configuration.write_text(_tls_settings(tls_port, ca, authority.server_pem()))
        environment["RABBITMQ_CONFIG_FILE"] = str(configuration)
    runner = launch.Daemon(
        [binary], ready=lambda: _ready(port), folder=folder, environment=environment
    )
    return RabbitMQ(
        kind="rabbitmq",
        url=_url(port),
        origin=binary,
        runner=runner,
        environment=environment,
        tls_url=tls_url,
        ca=ca,
    )


def _tls_settings(port: int, ca: Path, server_pem: Path) -> str:
    return (
        f"listeners.ssl.1 = {HOST}:{port}\n"
        f"listeners.ssl.2 = {launch.OTHER_HOST}:{port}\n"
        f"ssl_options.cacertfile = {ca}\n"
        f"ssl_options.certfile = {server_pem}\n"
        f"ssl_options.keyfile = {server_pem}\n"
        "ssl_options.verify = verify_none\n"
        "ssl_options.fail_if_no_peer_cert = false\n"
    )


def _url(port: int) -> str:
    return f"amqp://guest:guest@{HOST}:{port}/"


def _ready(port: int) -> bool:
    return launch.answers(port, GREETING, ANSWER)
