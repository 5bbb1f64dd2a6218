"""On the hot path's short way: what is answered below ASGI, from memory, and for many at once."""

from tests.antitests.antitest import AntiTest, Patch

HTTP = "src/entrypoints/flashsale/http/"
CYCLE = f"{HTTP}short_cut.py:ShortCycle."
PROTOCOL = f"{HTTP}short_cut.py:ShortCutProtocol."
BOUNDS = f"{HTTP}bounds.py:BoundedProtocol."
DESK = "src/flashsale_core/purchase.py:PurchaseDesk."
BUS = "src/adapters/flashsale_coalesce/bus.py:CoalescingBus."
SHORT = "tests/unit/test_http_short_cut.py::"
SOLD_OUT = "tests/unit/test_sold_out.py::"
ALIKE = "tests/unit/test_http_same_answers.py::"
COALESCE = "tests/unit/test_coalesce.py::"

ANTITESTS = (
    # ── what is remembered ──────────────────────────────────────────────────────────────────────
    AntiTest(
        name="own-id-asks-the-gate",
        promise=3,
        mechanism="who brings an id is answered by the gate, also while sold out is remembered",
        where=f"{HTTP}buy.py:BuyHandler.begin",
        patches=(
            Patch("None if is_named else self._remembered(request)", "self._remembered(request)"),
        ),
        test=f"{SOLD_OUT}test_who_brings_an_id_is_answered_by_the_gate",
    ),
    AntiTest(
        name="own-id-in-the-header",
        promise=3,
        mechanism="an Idempotency-Key is such an id",
        where=f"{HTTP}buy.py:BuyHandler._read",
        patches=(
            Patch(
                'is_named = wire.purchase_id is not UNSET or b"idempotency-key" in named',
                "is_named = wire.purchase_id is not UNSET",
            ),
        ),
        test=f"{SOLD_OUT}test_who_brings_an_id_is_answered_by_the_gate",
    ),
    AntiTest(
        name="sold-out-is-forgotten",
        promise=15,
        mechanism="sold out is remembered for 100 ms, and then the gate is asked again",
        where=f"{DESK}remembered",
        patches=(
            Patch("        if self._clock.monotonic_ms() >= until_ms:\n", "        if False:\n"),
        ),
        test=f"{SOLD_OUT}test_units_that_come_back_are_sold_after_100_ms_at_most",
    ),
    AntiTest(
        name="sold-out-since-the-question",
        promise=15,
        mechanism="those 100 ms begin before the gate is asked, not when it answers",
        where=f"{DESK}buy",
        patches=(
            Patch(
                "self._remember(sale, answer, started_ms)",
                "self._remember(sale, answer, self._clock.monotonic_ms())",
            ),
        ),
        test=f"{SOLD_OUT}test_sold_out_was_true_within_the_last_100_ms",
    ),
    AntiTest(
        name="sold-out-for-everybody",
        promise=15,
        mechanism="too few for one buyer is not remembered for another",
        where=f"{DESK}_remember",
        patches=(Patch("        if answer.available <= 0:\n", "        if True:\n"),),
        test=f"{SOLD_OUT}test_fewer_left_than_asked_for_is_not_remembered",
    ),
    AntiTest(
        name="rule-before-memory",
        promise=6,
        mechanism="a rule of the seller's is asked before sold out is remembered",
        where=f"{DESK}remembered",
        patches=(Patch("return refused or sold_out", "return sold_out"),),
        test=f"{SOLD_OUT}test_a_rule_of_the_sellers_comes_before_what_is_remembered",
    ),
    # ── below ASGI ──────────────────────────────────────────────────────────────────────────────
    AntiTest(
        name="short-cut-is-no-other-answer",
        promise=3,
        mechanism="the short cut hands the whole request to the one function that answers all ways",
        where=f"{HTTP}front.py:_ShortCut.begin",
        patches=(Patch("self._begin(body, headers, {", "self._begin(body, headers[:1], {"),),
        test=f"{ALIKE}test_every_form_of_a_header_is_answered_alike_by_all_three_ways",
    ),
    AntiTest(
        name="short-cut-order",
        promise=15,
        mechanism="what is sent ahead is answered in its order, never by the way that is quicker",
        where=f"{PROTOCOL}begin_cycle",
        patches=(Patch("            or not (cycle is None or cycle.response_complete)\n"),),
        test=f"{SHORT}test_what_is_sent_ahead_is_answered_in_its_order",
    ),
    AntiTest(
        name="nothing-behind-the-last-answer",
        promise=15,
        mechanism="what stands behind a connection's last answer is not done",
        where=f"{BOUNDS}on_headers_complete",
        patches=(
            Patch(
                "        if self.transport.is_closing():\n            # Behind",
                "        if False:\n            # Behind",
            ),
        ),
        test=f"{SHORT}test_nothing_is_done_behind_the_last_answer",
    ),
    AntiTest(
        name="nobody-to-write-to",
        promise=19,
        mechanism="an answer to who has left meanwhile is dropped",
        where=f"{CYCLE}_send",
        patches=(
            Patch("if self.disconnected or owner.transport.is_closing():", "if self.disconnected:"),
        ),
        test=f"{SHORT}test_who_leaves_while_the_gate_is_asked_is_sold_to_and_disturbs_nobody",
    ),
    AntiTest(
        name="short-cut-body-limit",
        promise=19,
        mechanism="a body that is too large is refused before it is whole, and kept no further",
        where=f"{CYCLE}on_body",
        patches=(
            Patch(
                "            if len(self.body) > asking.BODY_BYTES_MAX:\n",
                "            if False:\n",
            ),
        ),
        test=f"{SHORT}test_a_body_beyond_the_limit_is_refused_before_it_is_whole",
        reddens_by="ValueError",
    ),
    AntiTest(
        name="short-cut-body-deadline",
        promise=19,
        mechanism="a body that does not arrive ends its connection there too",
        where=f"{CYCLE}wait_for_body",
        patches=(
            Patch(
                "        if self._timer is None and not self._is_begun:\n", "        if False:\n"
            ),
        ),
        test=f"{SHORT}test_a_body_that_stops_is_408_and_the_end",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="short-cut-waits-for-readers",
        promise=19,
        mechanism="who does not read is not written to without end",
        where=f"{PROTOCOL}begin_cycle",
        patches=(Patch("            or self.flow.write_paused\n"),),
        test=f"{SHORT}test_who_does_not_read_is_answered_by_the_way_that_waits",
    ),
    AntiTest(
        name="last-answer-deadline",
        promise=19,
        mechanism="who does not read its last answer is cut off",
        where=f"{BOUNDS}on_response_complete",
        patches=(
            Patch(
                "            if self.transport.get_write_buffer_size():\n"
                "                self._abort_later()\n            return\n",
                "            return\n",
            ),
        ),
        test=f"{SHORT}test_who_does_not_read_its_last_answer_is_cut_off",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="upgrade-with-a-body",
        promise=19,
        mechanism="an upgrade that brings a body is refused: the body would be the next request",
        where=f"{BOUNDS}begin_cycle",
        patches=(Patch("if self.parser.should_upgrade() and self._has_body():", "if False:"),),
        test=f"{SHORT}test_an_upgrade_with_a_body_is_refused",
    ),
    AntiTest(
        name="trailer-is-no-head",
        promise=3,
        mechanism="what comes behind a body names no purchase",
        where=f"{BOUNDS}on_chunk_header",
        patches=(
            Patch(
                "        self.headers = []\n        self._is_in_trailer = True\n",
                "        self._is_in_trailer = True\n",
            ),
        ),
        test=f"{SHORT}test_a_trailer_is_no_head_and_has_its_bounds",
        reddens_by="KeyError",
    ),
    AntiTest(
        name="trailer-limit",
        promise=19,
        mechanism="and is bounded as a head is",
        where=f"{BOUNDS}on_chunk_header",
        patches=(Patch("        self._is_in_trailer = True\n"),),
        test=f"{SHORT}test_a_trailer_is_no_head_and_has_its_bounds",
    ),
    AntiTest(
        name="idle-deadline",
        promise=19,
        mechanism="a connection that asks for nothing more is ended",
        where=f"{BOUNDS}on_response_complete",
        patches=(Patch("        self._idle_since_s = self.loop.time()\n", "        pass\n"),),
        test="tests/unit/test_http_bounds.py::test_an_idle_connection_ends",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="idle-until-asked",
        promise=19,
        mechanism="one that asks is not idle, however long its answer takes",
        where=f"{BOUNDS}on_message_begin",
        patches=(Patch("        self._idle_since_s = None\n"),),
        test=f"{SHORT}test_the_time_of_an_idle_connection_begins_with_its_last_answer",
    ),
    AntiTest(
        name="idle-not-in-a-head",
        promise=19,
        mechanism="nor one whose next head began before the last answer",
        where=f"{BOUNDS}on_response_complete",
        patches=(
            Patch(
                "        if self._is_in_head:\n            return  # It",
                "        if False:\n            return  # It",
            ),
        ),
        test=f"{SHORT}test_a_request_that_begins_before_an_answer_is_not_idleness",
    ),
    AntiTest(
        name="connections-leave-nothing",
        promise=19,
        mechanism="a connection that ended is freed at once, without the collector",
        where=f"{PROTOCOL}connection_lost",
        patches=(
            Patch(
                "            self.cycle = None  # type: ignore[assignment]\n", "            pass\n"
            ),
        ),
        test=f"{SHORT}test_connections_leave_nothing_for_the_collector",
    ),
    # ── many at once ────────────────────────────────────────────────────────────────────────────
    AntiTest(
        name="bounded-in-flight",
        promise=17,
        mechanism="more purchases at once than could be answered in time are told so at once",
        where=f"{HTTP}buy.py:BuyHandler._read",
        patches=(Patch("        if self._in_flight >= IN_FLIGHT_MAX:\n", "        if False:\n"),),
        test=f"{SHORT}test_too_many_at_once_are_refused_at_once_by_the_short_cut",
        reddens_by="ValueError",
    ),
    AntiTest(
        name="bounded-bus-queue",
        promise=17,
        mechanism="and more promises than the broker could confirm in time",
        where=f"{BUS}publish",
        patches=(
            Patch("        if len(self._under_way) >= self._waiting_max:\n", "        if False:\n"),
        ),
        test=f"{COALESCE}test_a_full_bus_answers_at_once",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="own-wait-for-the-confirm",
        promise=19,
        mechanism="who leaves takes no confirm from others who wait for the same purchase",
        where=f"{BUS}_join",
        patches=(
            Patch(
                "        promise.waiting.append(confirmed)\n",
                "        if promise.waiting:\n            return promise.waiting[0]\n"
                "        promise.waiting.append(confirmed)\n",
            ),
        ),
        test=f"{COALESCE}test_who_leaves_takes_no_confirm_from_those_who_wait_for_the_same",
    ),
    AntiTest(
        name="who-left-is-taken-out",
        promise=19,
        mechanism="no unit is taken for a buyer who left before the call of the gate",
        where="src/adapters/flashsale_coalesce/gate.py:CoalescingGate._take",
        patches=(Patch("            if not one.reply.cancelled():\n", "            if True:\n"),),
        test=f"{COALESCE}test_who_left_before_the_call_was_sent_is_taken_out",
    ),
)
