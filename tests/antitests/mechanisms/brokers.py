"""At the brokers: what makes a confirm worth something."""

from tests.antitests.antitest import AntiTest, Patch, Server

ANTITESTS = (
    AntiTest(
        name="from-the-beginning",
        promise=2,
        mechanism="a new group of workers reads a Kafka topic from its beginning",
        where="src/adapters/flashsale_kafka/consuming.py:",
        patches=(Patch('auto_offset_reset="earliest"', 'auto_offset_reset="latest"'),),
        test="tests/integration/test_kafka_consuming.py::test_a_new_group_reads_from_the_beginning",
        reddens_by="TimeoutError",
        server=Server.KAFKA,
    ),
    AntiTest(
        name="mandatory",
        promise=2,
        mechanism="what RabbitMQ can route nowhere is refused, and not confirmed and dropped",
        where="src/adapters/flashsale_rabbitmq/confirming.py:",
        patches=(
            Patch("routing_key=letter.routes[0], mandatory=True", "routing_key=letter.routes[0]"),
        ),
        test="tests/integration/test_rabbitmq_publishing.py::"
        "test_an_unroutable_publish_is_refused_and_certainly_did_not_happen",
        server=Server.RABBITMQ,
    ),
    AntiTest(
        name="barrier-on-every-queue",
        promise=8,
        mechanism="a barrier that misses a partition is no barrier",
        where="src/adapters/flashsale_rabbitmq/bus.py:RabbitMQBus.barrier",
        patches=(
            Patch(
                "        await self._publisher.deliver(letters, self._config.deadline_ms)\n"
                "        return len(letters)\n\n    async def check",
                "        for letter in letters:\n"
                "            try:\n"
                "                one = [letter]\n"
                "                await self._publisher.deliver(one, self._config.deadline_ms)\n"
                "            except Unavailable:\n"
                "                continue\n"
                "        return len(letters)\n\n    async def check",
            ),
        ),
        test="tests/integration/test_rabbitmq_publishing.py::"
        "test_a_barrier_that_misses_a_queue_is_no_barrier",
        server=Server.RABBITMQ,
    ),
)
