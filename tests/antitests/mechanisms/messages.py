"""Messages that fail: whose fault it is, and that nothing of them is lost."""

from tests.antitests.antitest import AntiTest, Patch, Server

PARKING = "src/flashsale_core/parking.py:Parking."
RETRY = "src/flashsale_core/retry.py:"
HANDLING = "src/flashsale_core/handling.py:Handling."
HANDLED = "tests/unit/test_handling.py::"

ANTITESTS = (
    AntiTest(
        name="parked-before-acknowledge",
        promise=10,
        mechanism="what is left over is in the table before the delivery is acknowledged",
        where=f"{PARKING}_set_aside",
        patches=(
            Patch(
                "        news = await self._parked.park(left)\n",
                "        try:\n"
                "            news = await self._parked.park(left)\n"
                "        except Unavailable:\n"
                "            return\n",
            ),
        ),
        test="tests/unit/test_parking.py::"
        "test_what_cannot_be_set_aside_now_stays_in_hand_and_is_copied_nowhere",
    ),
    AntiTest(
        name="suspects-one-at-a-time",
        promise=10,
        mechanism="while a suspect is in hand no other one stands by and is counted as a killer",
        where=f"{HANDLING}carefully",
        patches=(Patch("async with self._alone:", "if True:"),),
        test=f"{HANDLED}test_suspects_of_all_deliveries_are_taken_one_after_the_other",
    ),
    AntiTest(
        name="table-before-copy",
        promise=10,
        mechanism="the table has a dead letter before other tools get a copy",
        where=f"{PARKING}_set_aside",
        patches=(
            Patch(
                "        news = await self._parked.park(left)\n",
                "        for letter in left:\n"
                "            if letter.status is ParkedStatus.DEAD:\n"
                "                await self._copy(letter)\n"
                "        news = await self._parked.park(left)\n",
            ),
        ),
        test="tests/unit/test_parking.py::"
        "test_what_cannot_be_set_aside_now_stays_in_hand_and_is_copied_nowhere",
    ),
    AntiTest(
        name="dead-letter-untouched",
        promise=10,
        mechanism="a dead letter's copy has the bytes, key and headers that came",
        where="src/adapters/flashsale_memory/bus.py:MemoryBus.copy_dead_letter",
        patches=(Patch("headers=message.headers + added,", "headers=added,"),),
        test="tests/unit/test_memory_bus.py::TestMemoryBus::"
        "test_a_dead_letters_copy_is_byte_identical",
    ),
    AntiTest(
        name="letter-kept-as-it-came",
        promise=10,
        mechanism="the table keeps a message as it came",
        where="src/adapters/flashsale_sql/parked_messages.py:_row",
        patches=(
            Patch(
                '        "body": message.body,\n',
                '        "body": (message.body or b"").strip(),\n',
            ),
        ),
        test="tests/integration/test_sql_contracts.py::TestParkedMessagesInSqlite::"
        "test_an_absent_body_is_not_an_empty_one",
    ),
    AntiTest(
        name="poison-is-alone",
        promise=10,
        mechanism="what cannot be decoded is dead by itself, and its neighbours go on",
        where="src/flashsale_core/fulfilment.py:Fulfilment._take_in",
        patches=(
            Patch(
                "            case Corrupt():\n"
                "                work.left[at].append(dead(message, value))\n",
                "            case Corrupt():\n                raise value\n",
            ),
        ),
        test="tests/unit/test_fulfilment.py::"
        "test_a_batch_with_poison_is_fulfilled_at_its_first_try",
        reddens_by="Corrupt",
    ),
    AntiTest(
        name="narrowed-by-halves",
        promise=10,
        mechanism="a batch that fails for one message is halved down to it",
        where=f"{RETRY}TREATMENTS",
        patches=(
            Patch(
                "Fault.UNKNOWN: Treatment(parks=ParkedStatus.RETRYING, is_narrowed=True,",
                "Fault.UNKNOWN: Treatment(parks=ParkedStatus.RETRYING, is_narrowed=False,",
            ),
        ),
        test="tests/unit/test_aftercare.py::"
        "test_an_unknown_failure_is_narrowed_down_to_its_message",
        reddens_by="ZeroDivisionError",
    ),
    AntiTest(
        name="dependency-counts-nothing",
        promise=11,
        mechanism="while a dependency is down a delivery waits, and no attempt counts",
        where=f"{RETRY}TREATMENTS",
        patches=(
            Patch(
                "Fault.DEPENDENCY: Treatment(parks=None, is_narrowed=False, counts=False)",
                "Fault.DEPENDENCY: Treatment(parks=ParkedStatus.RETRYING, is_narrowed=True,"
                " counts=True)",
            ),
        ),
        test="tests/unit/test_retry.py::test_nothing_but_a_messages_own_fault_ends_or_counts",
    ),
    AntiTest(
        name="dependency-parks-nothing",
        promise=11,
        mechanism="and nothing is set aside for it",
        where=f"{PARKING}_deliver",
        patches=(
            Patch(
                "            if not treatment_of(error).is_narrowed:\n                raise\n"
                "            if fault_of(error) is Fault.TRANSIENT:",
                "            if fault_of(error) is Fault.TRANSIENT:",
            ),
        ),
        test="tests/unit/test_fulfilment.py::test_a_dependency_that_is_away_dead_letters_nothing",
    ),
    AntiTest(
        name="gate-away-is-waited-for",
        promise=11,
        mechanism="a gate that is away is no sale that cannot be sold: nothing is parked",
        where="src/flashsale_core/fulfilment.py:Fulfilment._judge",
        patches=(
            Patch(
                "                if fault_of(reply) is not Fault.SALE:\n"
                "                    # Nothing is wrong with the sale: the same messages come "
                "again.\n                    raise reply\n"
            ),
        ),
        test="tests/unit/test_fulfilment.py::test_a_gate_that_is_away_for_one_sale_is_waited_for",
        reddens_by="StaleEpoch",
    ),
    AntiTest(
        name="third-death",
        promise=10,
        mechanism="the third death quarantines a message undecoded",
        where=f"{HANDLING}carefully",
        patches=(Patch("            if count >= DEATHS_MAX:\n", "            if False:\n"),),
        test=f"{HANDLED}test_the_third_death_quarantines_the_message_and_the_rest_go_on",
    ),
    AntiTest(
        name="noted-before-decoded",
        promise=10,
        mechanism="a suspected message is noted before it is decoded: only a death leaves the note",
        where=f"{HANDLING}_noted",
        patches=(Patch("        await self._notes.note(keys, self._life)\n"),),
        test=f"{HANDLED}test_the_third_death_quarantines_the_message_and_the_rest_go_on",
    ),
    AntiTest(
        name="suspects-alone",
        promise=10,
        mechanism="what was in hand at a death is taken one message at a time",
        where=f"{HANDLING}carefully",
        patches=(Patch("if count == 0:", "if True:"),),
        test=f"{HANDLED}test_the_third_death_quarantines_the_message_and_the_rest_go_on",
    ),
    AntiTest(
        name="note-taken-back",
        promise=11,
        mechanism="a failure that is no death takes the note back",
        where=f"{HANDLING}_noted",
        patches=(
            Patch(
                "            with suppress(Unavailable):\n"
                "                await self._notes.take_back(keys, self._life)\n"
            ),
        ),
        test=f"{HANDLED}test_a_dependency_that_is_away_is_nobodys_death",
    ),
    AntiTest(
        name="parked-lease",
        promise=10,
        mechanism="a parked message that a feeder took is nobody else's until its lease ends",
        where="src/adapters/flashsale_sql/parked_messages.py:SqlParkedMessages.claim_due",
        patches=(
            Patch(
                ".values(next_attempt_at=from_now(lease_ms))",
                ".values(next_attempt_at=_columns.next_attempt_at)",
            ),
        ),
        test="tests/integration/test_sql_contracts.py::TestParkedMessagesInSqlite::"
        "test_a_claim_holds_until_its_lease_ends",
    ),
    AntiTest(
        name="skip-locked-parked",
        promise=10,
        mechanism="feeders side by side skip what another is taking, and feed nothing twice",
        where="src/adapters/flashsale_sql/parked_messages.py:SqlParkedMessages.claim_due",
        patches=(Patch("            .with_for_update(skip_locked=True)\n"),),
        test="tests/integration/test_sql_contracts.py::TestParkedMessagesInPostgresql::"
        "test_claims_at_once_take_different_messages",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="replay-once",
        promise=12,
        mechanism="of two operators one replays: the status is changed under its lock",
        where="src/adapters/flashsale_sql/dead_letters.py:SqlDeadLetters.replay",
        patches=(Patch("            if before is ParkedStatus.DEAD:\n", "            if True:\n"),),
        test="tests/integration/test_sql_contracts.py::TestDeadLettersInSqlite::"
        "test_only_a_dead_letter_is_replayed",
    ),
    AntiTest(
        name="replay-under-the-lock",
        promise=12,
        mechanism="and the second waits for that lock, and then finds it done",
        where="src/adapters/flashsale_sql/dead_letters.py:_locked",
        patches=(Patch(".with_for_update()"),),
        test="tests/integration/test_sql_contracts.py::TestDeadLettersInPostgresql::"
        "test_of_two_operators_at_once_one_replays",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="ended-stays-ended",
        promise=12,
        mechanism="what an operator ended is not taken up again by a worker that had it in hand",
        where="src/adapters/flashsale_sql/parked_messages.py:SqlParkedMessages.resolve",
        patches=(
            Patch(
                "            .where(_columns.parked_id == parked_id, ~_is(_ENDED))\n",
                "            .where(_columns.parked_id == parked_id)\n",
            ),
        ),
        test="tests/integration/test_sql_contracts.py::TestParkedMessagesInSqlite::"
        "test_what_has_ended_stays_ended",
    ),
    AntiTest(
        name="audited",
        promise=12,
        mechanism="who ended it, and why, is written before anything is done",
        where="src/flashsale_core/discarding.py:Discarder.discard",
        patches=(Patch("        await self._letters.sign(letter_id, Act.DISCARD, signed)\n"),),
        test="tests/unit/test_dead_letters.py::"
        "test_a_discarded_promise_is_rejected_with_its_event_and_its_unit_is_free",
        reddens_by="ValueError",
    ),
    AntiTest(
        name="letter-before-row",
        promise=12,
        mechanism="what an operator ends is kept from the sweeper before its row is written",
        where="src/flashsale_core/ending.py:Ender.end",
        patches=(Patch("        await self._parked.park([self._letter(sale_id, record)])\n"),),
        test="tests/unit/test_ending.py::test_the_sweeper_leaves_alone_what_is_being_ended",
        reddens_by="Conflict",
    ),
    AntiTest(
        name="final-is-not-ended",
        promise=12,
        mechanism="what is sold or has ended cannot be ended",
        where="src/flashsale_core/ending.py:Ender._held",
        patches=(Patch("        if record.state.is_final:\n", "        if False:\n"),),
        test="tests/unit/test_ending.py::test_a_sold_purchase_is_not_ended",
    ),
    AntiTest(
        name="an-order-is-not-discarded",
        promise=12,
        mechanism="a row that stands is followed by a discard, and never changed",
        where="src/adapters/flashsale_memory/order_repository.py:MemoryOrderRepository.record",
        patches=(
            Patch(
                "        new = [one for one in decisions "
                "if _key_of(one) not in self._tables.orders]\n",
                "        new = list(decisions)\n",
            ),
        ),
        test="tests/unit/test_dead_letters.py::"
        "test_an_order_that_stands_is_followed_and_told_and_never_rejected",
    ),
)
