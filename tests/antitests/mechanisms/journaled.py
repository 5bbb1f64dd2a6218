"""Policy `journaled`: a promise that the gate's journal alone holds for a moment."""

from tests.antitests.antitest import AntiTest, Patch

DESK = "src/flashsale_core/purchase.py:JournaledDesk."
TESTS = "tests/unit/test_journaled.py::"

ANTITESTS = (
    AntiTest(
        name="journaled-promise-time",
        promise=2,
        mechanism="the 0.8 s hold for an answer out of the journal too",
        where=f"{DESK}_promise",
        patches=(
            Patch(
                "        self._later(self._publish(sale, record))\n"
                "        if self._clock.monotonic_ms() - started_ms >= PROMISE_MS:\n",
                "        self._later(self._publish(sale, record))\n        if False:\n",
            ),
        ),
        test=f"{TESTS}test_an_answer_of_the_gate_that_came_late_promises_nothing",
    ),
    AntiTest(
        name="journaled-only-what-is-swept",
        promise=2,
        mechanism="only what the sweeper would publish again is promised out of the journal",
        where=f"{DESK}_promise",
        patches=(Patch("if record.state is not PurchaseState.RESERVED:", "if False:"),),
        test=f"{TESTS}test_what_was_taken_for_a_message_from_outside_is_promised_after_the_confirm",
    ),
    AntiTest(
        name="journaled-is-refused",
        promise=2,
        mechanism="a gate that forgets with its process is refused for it, unless loss is accepted",
        where="src/entrypoints/flashsale/settings_rules.py:_journal",
        patches=(
            Patch(
                "if is_journaled and settings.gate_url.is_memory and not accepts_loss:",
                "if False:",
            ),
        ),
        test=f"{TESTS}test_a_memory_gate_journals_nothing_that_outlives_it",
    ),
    AntiTest(
        name="journaled-needs-a-word",
        promise=2,
        mechanism="so is one that says nothing of whether it keeps what it has answered",
        where="src/entrypoints/flashsale/starting.py:journal_keeps",
        patches=(Patch("if operator is not None else [NOBODY_SAYS]", "if operator else []"),),
        test=f"{TESTS}test_a_gate_that_says_nothing_of_its_journal_is_not_trusted",
    ),
)
