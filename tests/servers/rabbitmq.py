"""RabbitMQ, one node with its own name server (epmd)."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.servers import launch
from tests.servers.launch import HOST

IMAGE = "rabbitmq:4.0"
# An AMQP 0-9-1 client begins with this; a server that is up answers with a method frame (1) on
# channel 0.
GREETING = b"AMQP\x00\x00\x09\x01"
ANSWER = b"\x01\x00\x00"


class RabbitMQ(launch.Server):
    """A RabbitMQ node; `url` is `amqp://guest:guest@127.0.0.1:PORT/`."""


def running_rabbitmq(*, ours: bool = False) -> AbstractContextManager[RabbitMQ]:
    """Yield a running RabbitMQ; `ours` starts one that the test may stop and kill."""
    return launch.running("rabbitmq", ours=ours, attach=attach, container=_container, local=_local)


def attach(url: str, origin: str) -> RabbitMQ:
    """Describe a RabbitMQ that somebody else runs."""
    return RabbitMQ(kind="rabbitmq", url=url, origin=origin)


def _container() -> RabbitMQ:
    port = launch.free_port()
    # The data's folder carries the node's name, which is the container's host name.
    described = launch.container(IMAGE, 5672, port, RABBITMQ_NODENAME="rabbit@localhost")
    runner = launch.Container(described, lambda: _ready(port))
    return RabbitMQ(kind="rabbitmq", url=_url(port), origin=f"container {IMAGE}", runner=runner)


def _local() -> RabbitMQ:
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
    runner = launch.Daemon(
        [binary], ready=lambda: _ready(port), folder=folder, environment=environment
    )
    return RabbitMQ(kind="rabbitmq", url=_url(port), origin=binary, runner=runner)


def _url(port: int) -> str:
    return f"amqp://guest:guest@{HOST}:{port}/"


def _ready(port: int) -> bool:
    return launch.answers(port, GREETING, ANSWER)
