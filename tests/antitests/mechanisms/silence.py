"""While something is silent: nobody waits behind it, and no crowd asks it."""

from tests.antitests.antitest import AntiTest, Patch, Server

BREAKER = "src/adapters/flashsale_coalesce/breaker.py:Breaker."
TESTS = "tests/unit/test_breaker.py::"

ANTITESTS = (
    AntiTest(
        name="open-answers-at-once",
        promise=17,
        mechanism="after a silence calls are refused at once, and do not leave the process",
        where=f"{BREAKER}_take_seat",
        patches=(Patch("        if now_s < self._probe_at_s:\n", "        if False:\n"),),
        test=f"{TESTS}test_after_a_silence_calls_are_refused_and_do_not_leave",
    ),
    AntiTest(
        name="probes-are-apart",
        promise=17,
        mechanism="after a probe that failed the next has its time to wait",
        where=f"{BREAKER}_open",
        patches=(
            Patch(
                "self._probe_at_s = self._now_s() + self._apart_s",
                "self._probe_at_s = self._now_s()",
            ),
        ),
        test=f"{TESTS}test_after_a_silence_calls_are_refused_and_do_not_leave",
    ),
    AntiTest(
        name="one-probe-at-a-time",
        promise=17,
        mechanism="one call alone finds out whether a server is back; the others are refused",
        where=f"{BREAKER}_take_seat",
        patches=(Patch("        self._probe_at_s = now_s + self._probe_s_max\n"),),
        test=f"{TESTS}test_one_call_alone_finds_out_that_it_is_back",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="a-probe-may-hang",
        promise=17,
        mechanism="a probe that hangs, or whose caller left, gives its place to the next",
        where=f"{BREAKER}_take_seat",
        patches=(
            Patch(
                "self._probe_at_s = now_s + self._probe_s_max",
                'self._probe_at_s = float("inf")',
            ),
        ),
        test=f"{TESTS}test_a_probe_that_hangs_does_not_keep_the_others_out_for_ever",
        reddens_by="Unavailable",
    ),
    AntiTest(
        name="probe-takes-nothing",
        promise=17,
        mechanism="a silent gate is asked, before any units, a question that takes none",
        where="src/adapters/flashsale_coalesce/guarding.py:GuardedGate.reserve",
        patches=(Patch(", probe=self._inner.check"),),
        test=f"{TESTS}test_a_crowd_before_a_silent_gate_costs_one_call_and_a_look",
    ),
    AntiTest(
        name="a-no-is-no-silence",
        promise=17,
        mechanism="a server that refuses is there: sales and marks still reach it",
        where=f"{BREAKER}_judge",
        patches=(Patch("        if away.was_refused:\n", "        if False:\n"),),
        test=f"{TESTS}test_a_server_that_says_no_is_there",
    ),
    AntiTest(
        name="one-failure-among-answers",
        promise=17,
        mechanism="a failure that another answer has overtaken sends nobody home",
        where=f"{BREAKER}_judge",
        patches=(Patch("        elif self._heard_at_s <= began_s:\n", "        else:\n"),),
        test=f"{TESTS}test_a_failure_that_another_answer_has_overtaken_opens_nothing",
    ),
    AntiTest(
        name="a-look-closes",
        promise=17,
        mechanism="a look that finds the server well lets calls through, also without traffic",
        where="src/entrypoints/flashsale/guards.py:watched",
        patches=(Patch("        await breaker.watch(look)\n", "        await look()\n"),),
        test=f"{TESTS}test_a_breaker_shows_in_the_metrics_and_in_the_log",
    ),
    AntiTest(
        name="a-look-is-never-refused",
        promise=17,
        mechanism="readiness sees the server and not its breaker",
        where=f"{BREAKER}watch",
        patches=(
            Patch("        await look()\n        self.heard()\n", "        await self.run(look)\n"),
        ),
        test=f"{TESTS}test_a_look_is_never_refused_and_closes_what_it_finds_well",
    ),
    AntiTest(
        name="list-of-sales-is-asked-for",
        promise=17,
        mechanism="the list of sales, on whose age a rebuild counts, passes every breaker",
        where="src/adapters/flashsale_coalesce/guarding.py:",
        patches=(
            Patch(
                'GUARDED_IN_DATABASE = ("orders",',
                'GUARDED_IN_DATABASE = ("catalogue", "orders",',
            ),
        ),
        test=f"{TESTS}test_the_list_of_sales_and_the_looks_are_never_refused",
    ),
    AntiTest(
        name="waiting-buyers-are-told",
        promise=17,
        mechanism="who waits behind a call of the gate that was lost hears with it",
        where="src/adapters/flashsale_coalesce/gate.py:CoalescingGate._send_one",
        patches=(Patch("                self._send_home(failure)\n", "                pass\n"),),
        test=f"{TESTS}test_a_crowd_before_a_silent_gate_costs_one_call_and_a_look",
    ),
    AntiTest(
        name="waiting-promises-are-told",
        promise=17,
        mechanism="whose promise waits behind a publish that was lost hears with it",
        where="src/adapters/flashsale_coalesce/bus.py:CoalescingBus._publish",
        patches=(
            Patch(
                "                self._send_home(error, lost=flight)\n", "                pass\n"
            ),
        ),
        test=f"{TESTS}test_promises_that_wait_behind_a_silent_broker_hear_with_the_first",
    ),
    AntiTest(
        name="bounded-queue",
        promise=17,
        mechanism="more buyers than could be served in time are told so at once",
        where="src/adapters/flashsale_coalesce/gate.py:CoalescingGate.reserve",
        patches=(
            Patch(
                "        if len(self._waiting) + len(batches) > self._waiting_max:\n",
                "        if False:\n",
            ),
        ),
        test="tests/unit/test_coalesce.py::test_a_full_queue_answers_at_once",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="gate-deadline",
        promise=17,
        mechanism="a gate that hangs is given up within its share of the buyer's time",
        where="src/adapters/flashsale_redis/wire.py:Wire.run",
        patches=(
            Patch(
                "asyncio.timeout(silence_s) as deadline:",
                "asyncio.timeout(10 * self._deadline_s) as deadline:",
            ),
        ),
        test="tests/integration/test_redis_gate.py::"
        "test_a_frozen_gate_is_given_up_within_its_share_and_may_have_taken_the_unit",
        server=Server.REDIS,
    ),
    AntiTest(
        name="publish-deadline",
        promise=17,
        mechanism="a broker that hangs is given up within the buyer's time",
        where="src/adapters/flashsale_kafka/producing.py:Publisher.send_in_turn",
        patches=(
            Patch(
                "self._publishing(doing, self._config.publish_deadline_ms)",
                "self._publishing(doing, self._config.deadline_ms)",
            ),
        ),
        test="tests/integration/test_kafka_producing.py::"
        "test_a_frozen_broker_answers_within_the_deadline_and_may_have_it",
        server=Server.KAFKA,
    ),
)
