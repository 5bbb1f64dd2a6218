"""At the doors: what a buyer is told, and when."""

from tests.antitests.antitest import AntiTest, Patch, Server

PURCHASE = "src/flashsale_core/purchase.py:PurchaseDesk."
TESTS = "tests/unit/test_purchase.py::"

ANTITESTS = (
    AntiTest(
        name="confirm-before-answer",
        promise=2,
        mechanism="200 ACCEPTED is said only after the broker confirmed the message",
        where=f"{PURCHASE}_promise",
        patches=(
            Patch(
                "            # Whatever it was, the unit is taken: the buyer must hear the id that "
                "resumes.\n            return OutcomeUnknown(purchase_id=record.purchase_id)\n",
                "            pass\n",
            ),
        ),
        test=f"{TESTS}test_a_lost_publish_is_an_unknown_outcome_and_the_same_id_resumes",
    ),
    AntiTest(
        name="promise-time",
        promise=2,
        mechanism="200 is said only within 0.8 s of asking the gate, which a rebuild waits out",
        where=f"{PURCHASE}_promise",
        patches=(
            Patch(
                "sale.epoch, (record.purchase_id,))\n"
                "        if self._clock.monotonic_ms() - started_ms >= PROMISE_MS:\n",
                "sale.epoch, (record.purchase_id,))\n        if False:\n",
            ),
        ),
        test=f"{TESTS}test_a_confirm_after_the_promises_time_is_an_unknown_outcome",
    ),
    AntiTest(
        name="only-q-and-s-answer-again",
        promise=2,
        mechanism="a purchase not known to be queued under this epoch is published again first",
        where="src/flashsale_core/idempotency.py:replay_of",
        patches=(
            Patch(
                "PurchaseState.OUTSIDE:\n            return Replay.PUBLISH",
                "PurchaseState.OUTSIDE:\n            return Replay.ANSWER",
            ),
        ),
        test=f"{TESTS}test_only_q_and_s_are_promised_without_a_new_confirm",
    ),
    AntiTest(
        name="lost-reply-is-unknown",
        promise=15,
        mechanism="a reply of the gate that was lost is told as unknown, never as nothing taken",
        where=f"{PURCHASE}buy",
        patches=(Patch("if away.may_have_happened:", "if False:"),),
        test=f"{TESTS}test_a_lost_reply_of_the_gate_is_an_unknown_outcome",
        reddens_by="Unavailable",
    ),
    AntiTest(
        name="late-reply",
        promise=15,
        mechanism="a reply of the gate that comes too late answers no other caller",
        where="src/adapters/flashsale_redis/wire.py:Wire.run",
        patches=(
            Patch("                    await connection.disconnect(nowait=True)\n"),
            # The driver does the same, where it is not told otherwise.
            Patch(
                "await connection.read_response()",
                "await connection.read_response(disconnect_on_error=False)",
            ),
        ),
        test="tests/integration/test_redis_gate.py::"
        "test_a_frozen_gate_is_given_up_within_its_share_and_may_have_taken_the_unit",
        server=Server.REDIS,
    ),
    AntiTest(
        name="sold-out-from-the-gate-alone",
        promise=5,
        mechanism="a listed sale is looked up in the process, and a refusal is published nowhere",
        where=f"{PURCHASE}buy",
        patches=(
            Patch(
                "sale = self._board.seen(request.item_id) or await self._unlisted(request.item_id)",
                "await self._board.refresh()\n"
                "        sale = await self._board.of_item(request.item_id)",
            ),
        ),
        test=f"{TESTS}test_sold_out_touches_neither_bus_nor_database",
        reddens_by="Unavailable",
    ),
    AntiTest(
        name="silence-is-not-404",
        promise=15,
        mechanism="while a gate that may know the purchase is silent, a look-up is 503",
        where="src/flashsale_core/inquiry.py:Inquiry._look",
        patches=(Patch("        if silent is not None:\n            raise silent\n"),),
        test="tests/unit/test_aftercare.py::test_a_silent_gate_is_never_no_such_purchase",
    ),
    AntiTest(
        name="marks-are-kept",
        promise=4,
        mechanism="a queued mark is kept until a call that carried it succeeded",
        where="src/adapters/flashsale_coalesce/gate.py:CoalescingGate._merged",
        patches=(
            Patch(
                "        queued = tuple(marks)[:MARKS_PER_CALL] if marks else ()\n",
                "        queued = tuple(marks)[:MARKS_PER_CALL] if marks else ()\n"
                "        self._drop_marks(sale, queued)\n",
            ),
        ),
        test="tests/unit/test_coalesce.py::"
        "test_marks_are_kept_until_a_call_that_carried_them_succeeded",
    ),
    AntiTest(
        name="admin-token",
        promise=16,
        mechanism="an admin route asks for the token",
        where="src/entrypoints/flashsale/http/guards.py:admin_only",
        patches=(Patch("    if token is None:\n", "    if True:\n"),),
        test="tests/unit/test_http_sales.py::"
        "test_admin_routes_need_the_token_where_one_is_configured",
    ),
    AntiTest(
        name="constant-time-token",
        promise=16,
        mechanism="the token is compared in a time that tells nothing of it",
        where="src/entrypoints/flashsale/http/guards.py:admin_only",
        patches=(
            Patch(
                "not hmac.compare_digest(\n"
                "        credentials.strip().encode(), token.encode()\n    ):",
                "credentials.strip() != token:",
            ),
        ),
        test="tests/unit/test_http_sales.py::test_the_token_is_compared_in_constant_time",
    ),
)
