"""At the brokers: what makes a confirm worth something, and what is done no more than it says."""

from tests.antitests.antitest import AntiTest, Patch, Server

KAFKA = "src/adapters/flashsale_kafka/"
LANES = f"{KAFKA}lanes.py:Lanes."
PARTS = "tests/unit/test_kafka_parts.py::"

ANTITESTS = (
    AntiTest(
        name="acks-all",
        promise=2,
        mechanism="Kafka confirms a promise when all replicas in sync have it",
        where=f"{KAFKA}producing.py:Publisher._begin",
        patches=(
            Patch("            acks=ACKS,\n", "            acks=1,\n"),
            # The driver takes no less than all where the producer is idempotent.
            Patch("            enable_idempotence=True,\n"),
        ),
        test="tests/unit/test_kafka_producer.py::"
        "test_a_publish_is_confirmed_by_all_replicas_in_sync",
    ),
    AntiTest(
        name="idempotent-producer",
        promise=3,
        mechanism="a batch that the driver sends again is stored once, and in its place",
        where=f"{KAFKA}producing.py:Publisher._begin",
        patches=(Patch("            enable_idempotence=True,\n"),),
        test="tests/unit/test_kafka_producer.py::"
        "test_a_batch_that_is_sent_again_is_stored_once_and_in_its_place",
    ),
    AntiTest(
        name="contiguous-watermark",
        promise=2,
        mechanism="a partition's offset is committed only when everything before it is done",
        where=f"{LANES}end",
        patches=(
            Patch(
                "        if is_done:\n"
                "            lane.done_to = lane.held_records[-1].offset + 1\n"
                "        elif not self._is_closing:\n",
                "        lane.done_to = lane.held_records[-1].offset + 1\n"
                "        if not is_done and not self._is_closing:\n",
            ),
        ),
        test=f"{PARTS}test_the_watermark_is_what_is_done_without_a_gap",
    ),
    AntiTest(
        name="one-delivery-a-partition",
        promise=2,
        mechanism="of a partition one delivery is in hand, so nothing is done behind a gap",
        where=f"{LANES}next_delivery",
        patches=(Patch("if lane.held is None and lane.waiting:", "if lane.waiting:"),),
        test=f"{PARTS}test_a_partition_with_a_delivery_in_hand_hands_out_no_other",
    ),
    AntiTest(
        name="given-back-comes-first",
        promise=2,
        mechanism="what was given back comes again before anything later",
        where=f"{LANES}end",
        patches=(
            Patch(
                "lane.waiting.extendleft(reversed(lane.held_records))",
                "lane.waiting.extend(lane.held_records)",
            ),
        ),
        test=f"{PARTS}test_giving_back_keeps_the_order",
    ),
    AntiTest(
        name="no-commit-after-the-partition-left",
        promise=2,
        mechanism="a delivery of a partition that left commits nothing when it ends, or came back",
        where=f"{LANES}end",
        patches=(
            Patch(
                "        if lane is None or lane.held is not delivery:\n"
                "            return False\n"
                "        if is_done:\n"
                "            lane.done_to = lane.held_records[-1].offset + 1\n",
                "        if lane is None:\n"
                "            return False\n"
                "        if is_done:\n"
                "            lane.done_to = len(delivery.messages)\n",
            ),
        ),
        test=f"{PARTS}test_what_was_lost_ends_without_effect_even_when_it_came_back",
    ),
    AntiTest(
        name="no-commit-by-itself",
        promise=2,
        mechanism="the driver commits nothing by itself: what was read is not what is done",
        where=f"{KAFKA}consuming.py:KafkaSubscription._be_member",
        patches=(
            Patch(
                "            enable_auto_commit=False,\n",
                "            enable_auto_commit=True,\n",
            ),
        ),
        test="tests/integration/test_kafka_bus.py::TestKafkaBus::"
        "test_what_was_not_acknowledged_comes_again_to_the_next_subscriber",
        reddens_by="TimeoutError",
        server=Server.KAFKA,
    ),
    AntiTest(
        name="committed-transactions-alone",
        promise=6,
        mechanism="what a producer's transaction aborted asks for nothing",
        where=f"{KAFKA}consuming.py:KafkaSubscription._be_member",
        patches=(Patch('            isolation_level="read_committed",\n'),),
        test="tests/integration/test_kafka_consuming.py::"
        "test_a_transaction_that_was_aborted_asks_for_nothing",
        server=Server.KAFKA,
    ),
    AntiTest(
        name="single-active-consumer",
        promise=8,
        mechanism="a queue of promises has one consumer at a time, so a barrier overtakes nothing",
        where="src/adapters/flashsale_rabbitmq/shapes.py:wanted_queues",
        patches=(Patch('{**consumed, "x-single-active-consumer": True}', "{**consumed}"),),
        test="tests/unit/test_rabbitmq_parts.py::"
        "test_only_accepted_queues_have_one_active_consumer",
    ),
    AntiTest(
        name="killed-workers-messages-first",
        promise=8,
        mechanism="so the next worker begins where a killed one had acknowledged, and in order",
        where="src/adapters/flashsale_rabbitmq/shapes.py:wanted_queues",
        patches=(Patch('{**consumed, "x-single-active-consumer": True}', "{**consumed}"),),
        test="tests/integration/test_rabbitmq_order.py::"
        "test_when_a_worker_is_killed_its_unacknowledged_come_first_and_in_order",
        server=Server.RABBITMQ,
    ),
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
        where="src/adapters/flashsale_rabbitmq/frames.py:_method",
        patches=(Patch("routing_key=route, mandatory=True", "routing_key=route"),),
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
