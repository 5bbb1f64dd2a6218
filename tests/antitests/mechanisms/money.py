"""Payment: one charge at most, and no unit back while nobody knows."""

from tests.antitests.antitest import AntiTest, Patch, Server

CASHIER = "src/flashsale_core/payment.py:Cashier."
SQL = "src/adapters/flashsale_sql/payments.py:"
TESTS = "tests/unit/test_payment.py::"
ON_SQLITE = "tests/integration/test_sql_contracts.py::TestPaymentsInSqlite::"

ANTITESTS = (
    AntiTest(
        name="row-before-call",
        promise=13,
        mechanism="PENDING_PAYMENT is stored before anybody is charged",
        where="src/flashsale_core/batch.py:decide",
        patches=(
            Patch(
                "    awaits_payment = is_paid_for and reason is None\n",
                "    awaits_payment = is_paid_for and False\n",
            ),
        ),
        test=f"{TESTS}test_what_was_accepted_is_pending_until_it_is_paid",
    ),
    AntiTest(
        name="same-key",
        promise=13,
        mechanism="the key is made from sale and purchase, the same however often it is asked",
        where=f"{SQL}_due",
        patches=(
            Patch(
                'charge = Charge(\n        key=payment_key(row["sale_id"], row["purchase_id"]),',
                'charge = Charge(\n        key=payment_key(row["sale_id"], '
                "f\"{row['purchase_id']}.{row['attempt']}\"),",
            ),
        ),
        test=f"{ON_SQLITE}test_what_is_charged_is_price_times_quantity_under_the_purchase_s_key",
    ),
    AntiTest(
        name="same-key-in-memory",
        promise=13,
        mechanism="a charge that never arrived is asked again under that key",
        where="src/adapters/flashsale_memory/payments.py:MemoryPayments.claim_due",
        patches=(
            Patch(
                "                charge=row.charge,\n",
                "                charge=attrs.evolve(row.charge, "
                'key=f"{row.charge.key}.{row.attempt}"),\n',
            ),
        ),
        test=f"{TESTS}test_a_charge_that_never_arrived_is_asked_again_under_the_same_key",
    ),
    AntiTest(
        name="look-up-first",
        promise=13,
        mechanism="what may have been charged is looked up before it is asked again",
        where=f"{CASHIER}_ask",
        patches=(Patch("        if due.attempt > 1:\n", "        if False:\n"),),
        test=f"{TESTS}test_a_charge_whose_reply_was_lost_is_looked_up_and_not_made_again",
    ),
    AntiTest(
        name="never-release-while-unknown",
        promise=13,
        mechanism="an unknown outcome is waited for, and the unit stays held",
        where=f"{CASHIER}handle",
        patches=(
            Patch(
                '            await self._later(held, "unknown" if away.may_have_happened '
                'else "away", str(away))\n            return\n',
                '            answer = Declined(reason="away")\n',
            ),
        ),
        test=f"{TESTS}test_nothing_is_released_while_the_provider_is_away",
    ),
    AntiTest(
        name="twenty-hours",
        promise=13,
        mechanism="no charge is asked later than 20 h after the first: providers forget keys",
        where=f"{CASHIER}_ask",
        patches=(
            Patch(
                "        if due.asked_for_ms + self._held_for_ms(held) >= CHARGE_WINDOW_MS:\n",
                "        if False:\n",
            ),
        ),
        test=f"{TESTS}test_no_charge_is_asked_later_than_20_h_after_the_first",
    ),
    AntiTest(
        name="no-call-on-an-old-claim",
        promise=13,
        mechanism="nobody charges who has too little of the lease left for a call",
        where=f"{CASHIER}_ask",
        patches=(
            Patch(
                "        if self._held_for_ms(held) + self._waits.deadline_ms >= "
                "self._waits.lease_ms:\n",
                "        if False:\n",
            ),
        ),
        test=f"{TESTS}test_a_machine_that_slept_does_not_charge_by_an_old_claim",
    ),
    AntiTest(
        name="payment-row-before-release",
        promise=13,
        mechanism="a declined unit is released after its REJECTED row is stored",
        where=f"{CASHIER}_end",
        patches=(
            Patch(
                "        settled = await self._payments.settle(held.due, end)\n",
                "        charge, failed = held.due.charge, isinstance(end, Declined)\n"
                "        gone = ((charge.purchase_id, 'PAYMENT_DECLINED'),) if failed else ()\n"
                "        early = follow_batch(charge.sale_id, 1, ())\n"
                "        await self._gate.follow([attrs.evolve(early, released=gone)])\n"
                "        settled = await self._payments.settle(held.due, end)\n",
            ),
        ),
        test=f"{TESTS}test_the_gate_follows_the_row_and_never_the_other_way",
    ),
    AntiTest(
        name="lease-by-claim",
        promise=13,
        mechanism="only the latest claim stores a result",
        where=f"{SQL}_is_held",
        patches=(Patch("        payments.c.attempt == due.attempt,\n"),),
        test=f"{ON_SQLITE}test_a_worker_whose_lease_passed_on_stores_nothing",
    ),
    AntiTest(
        name="lease-by-time",
        promise=13,
        mechanism="and only while its lease runs",
        where=f"{SQL}_is_held",
        patches=(Patch("        payments.c.leased_until > now(),\n"),),
        test=f"{ON_SQLITE}test_a_worker_whose_lease_ended_stores_nothing",
    ),
    AntiTest(
        name="ends-once",
        promise=13,
        mechanism="a result is stored only while the payment is pending",
        where=f"{SQL}_is_held",
        patches=(
            Patch(
                "        payments.c.state == State.PENDING.value,\n"
                "        payments.c.attempt == due.attempt,\n",
                "        payments.c.attempt == due.attempt,\n",
            ),
        ),
        test=f"{ON_SQLITE}test_an_end_is_stored_once",
        reddens_by="NoResultFound",
    ),
    AntiTest(
        name="declined-unit-returns-once",
        promise=13,
        mechanism="a declined unit goes back in the transaction that ends the row",
        where=f"{SQL}SqlPayments._finish",
        patches=(
            Patch(
                "        column = sales.c.sold if is_sold else sales.c.available\n",
                "        column = sales.c.sold\n",
            ),
        ),
        test=f"{ON_SQLITE}test_a_declined_payment_gives_the_units_back",
    ),
    AntiTest(
        name="payment-lease",
        promise=13,
        mechanism="a payment that a cashier took is nobody else's until its lease ends",
        where=f"{SQL}SqlPayments.claim_due",
        patches=(Patch("                leased_until=from_now(lease_ms),\n"),),
        test=f"{ON_SQLITE}test_a_claimed_payment_is_nobody_else_s_until_its_lease_ends",
    ),
    AntiTest(
        name="skip-locked-payments",
        promise=13,
        mechanism="cashiers side by side skip each other's payments",
        where=f"{SQL}SqlPayments.claim_due",
        patches=(Patch("            .with_for_update(skip_locked=True)\n"),),
        test="tests/integration/test_sql_contracts.py::TestPaymentsInPostgresql::"
        "test_claimers_at_once_take_different_payments",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="token-is-erased",
        promise=13,
        mechanism="the buyer's token is erased when the payment is final",
        where=f"{SQL}SqlPayments.settle",
        patches=(
            Patch(
                '{"state": State.DECLINED.value, "payment_token": None}',
                '{"state": State.DECLINED.value}',
            ),
        ),
        test=f"{ON_SQLITE}test_a_declined_payment_gives_the_units_back",
        reddens_by="Corrupt",
    ),
)
