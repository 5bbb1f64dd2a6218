"""What may be wrong with a RabbitMQ and its queues, and what mends each."""

from contextlib import suppress

from aio_pika import Message
from aio_pika.exceptions import PublishError

from flashsale_core.errors import Conflict, Unavailable
from flashsale_core.opening import BusOptions
from flashsale_core.operating import Backlog, Finding, OperateBus, wrong
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.connecting import close_quietly, connect, where
from flashsale_rabbitmq.faults import LOGIN_ADVICE, TLS_ADVICE, VHOST_ADVICE, translated
from flashsale_rabbitmq.opening import config_of
from flashsale_rabbitmq.topology import ensure_topology, verify_topology

NOWHERE = 999_999_999
"""The number of an accepted queue that cannot be."""
ENSURE = "flashsale topics ensure"
_REACHED = "rabbitmq reachable"


class RabbitMQOperator:
    """Looks after exchange and queues; connects and disconnects in each call."""

    def __init__(self, url: str, options: BusOptions) -> None:
        """Remember where the broker is and what its parts are called."""
        self._config: RabbitMQConfig = config_of(url, options)

    async def ensure(self) -> tuple[str, ...]:
        """See `BusOperator.ensure`."""
        return await ensure_topology(self._config)

    async def accepted_backlog(self) -> Backlog:
        """See `BusOperator.accepted_backlog`; what is in flight to a consumer is not counted."""
        connection = await connect(self._config, "flashsale backlog")
        messages = consumers = 0
        try:
            with translated("counting what waits"):
                async with connection.channel() as channel:
                    for name in self._config.accepted_queues():
                        queue = await channel.declare_queue(name, passive=True)
                        messages += queue.declaration_result.message_count or 0
                        consumers += queue.declaration_result.consumer_count or 0
        finally:
            await close_quietly(connection)
        return Backlog(messages=messages, consumers=consumers)

    async def diagnose(self) -> list[Finding]:
        """See `BusOperator.diagnose`; without an answer there is one finding only."""
        reached = Finding(name=_REACHED, said=where(self._config))
        try:
            await verify_topology(self._config)
        except Unavailable as away:
            return [_away(away)]
        except Conflict as conflict:
            return [reached, _topology(conflict)]
        try:
            await self._knock_at_accepted()
        except Unavailable as away:
            return [reached, _away(away)]
        said = f"{3 + self._config.accepted_partitions} durable quorum queues"
        return [reached, Finding(name="rabbitmq queues", said=said)]

    async def _knock_at_accepted(self) -> None:
        """Publish what no queue is bound for: it comes back, unless this user may not publish.

        Raises Unavailable, also where the right is missing: no question about rights is answered.
        """
        connection = await connect(self._config, "flashsale rights")
        try:
            with translated("publishing to the accepted queues"):
                async with connection.channel(on_return_raises=True) as channel:
                    exchange = await channel.get_exchange(self._config.exchange, ensure=False)
                    nowhere = f"{self._config.accepted}.{NOWHERE}"
                    with suppress(PublishError):
                        await exchange.publish(
                            Message(b""), nowhere, timeout=self._config.connect_ms / 1_000
                        )
        finally:
            await close_quietly(connection)


def _topology(conflict: Conflict) -> Finding:
    if conflict.code == "topology-missing":
        return wrong("rabbitmq queues", conflict.detail, ENSURE)
    fix = f"rabbitmqctl delete_queue <queue>, once it is empty, then {ENSURE}"
    return wrong("rabbitmq queues", conflict.detail, fix)


def _away(away: Unavailable) -> Finding:
    if LOGIN_ADVICE in away.detail:
        fix = "put the right user and password into FLASHSALE_BUS_URL (amqp://USER:PASSWORD@…)"
        return wrong("rabbitmq login", away.detail, fix)
    if VHOST_ADVICE in away.detail:
        fix = "rabbitmqctl add_vhost <path of FLASHSALE_BUS_URL>, and set_permissions on it"
        return wrong("rabbitmq virtual host", away.detail, fix)
    if "lacks a right" in away.detail:
        fix = (
            "rabbitmqctl set_permissions and set_topic_permissions, as docs/security.md lists them"
        )
        return wrong("rabbitmq rights", away.detail, fix)
    if TLS_ADVICE in away.detail:
        fix = "use amqps:// on the TLS port, the host of the certificate, and ?cafile=/path/ca.pem"
        return wrong("rabbitmq TLS", away.detail, fix)
    fix = "start RabbitMQ, or correct FLASHSALE_BUS_URL (amqp://user:password@host:5672/)"
    return wrong(_REACHED, away.detail, fix)


_: OperateBus = RabbitMQOperator
