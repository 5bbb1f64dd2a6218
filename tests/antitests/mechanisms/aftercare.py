"""After the promise: the gate follows the rows, and what was lost on the way is found again."""

from tests.antitests.antitest import AntiTest, Patch

FULFILMENT = "src/flashsale_core/fulfilment.py:Fulfilment."
SWEEPER = "src/flashsale_core/sweeper.py:Sweeper."
RECONCILIATION = "src/flashsale_core/reconciliation.py:"
SWEPT = "tests/unit/test_aftercare.py::"

ANTITESTS = (
    AntiTest(
        name="gate-follows-row",
        promise=4,
        mechanism="the gate is told how every row stands, whoever wrote it",
        where=f"{FULFILMENT}_follow",
        patches=(
            Patch(
                "            if standing.sale_id in work.epochs:\n",
                "            if standing.is_new and standing.sale_id in work.epochs:\n",
            ),
        ),
        test="tests/unit/test_fulfilment.py::"
        "test_a_gate_that_missed_what_its_row_says_hears_it_when_the_message_comes_again",
    ),
    AntiTest(
        name="gate-follows-its-own-row",
        promise=4,
        mechanism="after the commit the gate is told to sell or to release",
        where=f"{FULFILMENT}_fulfil",
        patches=(Patch("            await self._follow(work, standings)\n"),),
        test="tests/unit/test_fulfilment.py::test_the_state_of_a_followed_purchase_is_final",
    ),
    AntiTest(
        name="row-before-release",
        promise=4,
        mechanism="no unit is released before its REJECTED row is in the database",
        where="src/flashsale_core/discarding.py:Discarder._end",
        patches=(
            Patch(
                "        standings = await self._orders.record("
                "list(work.decisions.values()), {})\n",
                "        for one in asked:\n"
                "            early = Standing(\n"
                "                sale_id=one.sale_id,\n"
                "                purchase_id=one.request.purchase_id,\n"
                "                status=OrderStatus.REJECTED,\n"
                "                reason=Reason.DISCARDED.value,\n"
                "                is_new=True,\n"
                "            )\n"
                "            await self._follow(one.sale_id, [early])\n"
                "        standings = await self._orders.record("
                "list(work.decisions.values()), {})\n",
            ),
        ),
        test="tests/unit/test_dead_letters.py::"
        "test_a_crash_at_any_step_of_a_discard_is_mended_by_the_same_again",
    ),
    AntiTest(
        name="sweeper",
        promise=4,
        mechanism="an overdue purchase that nobody knows is published again",
        where=f"{SWEEPER}_settle_debts",
        patches=(
            Patch("            await self._publish(sale, epoch, entries)\n", "            pass\n"),
        ),
        test=f"{SWEPT}test_an_overdue_reservation_is_published_again_and_ends_as_an_order",
    ),
    AntiTest(
        name="sweeper-asks-the-database",
        promise=4,
        mechanism="the sweeper looks for a row first, and lets the gate follow it",
        where=f"{SWEEPER}_settle_debts",
        patches=(
            Patch(
                "        standing = await self._orders.standing("
                "[(sale.sale_id, one) for one in ids])\n",
                "        standing: list[Standing | None] = [None for _ in ids]\n",
            ),
        ),
        test=f"{SWEPT}test_a_purchase_that_has_a_row_is_followed_and_not_published",
        reddens_by="Unavailable",
    ),
    AntiTest(
        name="sweeper-waits-for-parked",
        promise=4,
        mechanism="a purchase that lies parked is not published again beside it",
        where=f"{SWEEPER}_lost",
        patches=(
            Patch("if row is not None or record.purchase_id in waiting:", "if row is not None:"),
        ),
        test=f"{SWEPT}test_what_is_parked_is_not_published_again",
        reddens_by="Unavailable",
    ),
    AntiTest(
        name="acknowledge-after-commit",
        promise=2,
        mechanism="a delivery is acknowledged when all of it is durable",
        where="src/entrypoints/flashsale/worker.py:Consumer._handle",
        patches=(
            Patch(
                "        if await self._fulfil(delivery):\n"
                "            await subscription.acknowledge(delivery)\n",
                "        await subscription.acknowledge(delivery)\n"
                "        if await self._fulfil(delivery):\n            pass\n",
            ),
        ),
        test="tests/unit/test_worker.py::"
        "test_a_delivery_beyond_mending_ends_the_consumer_and_stays_on_the_bus",
    ),
    AntiTest(
        name="settle-waits",
        promise=4,
        mechanism="a sale is settled only when nothing of it is under way",
        where="src/flashsale_core/selling.py:SaleDesk.settle",
        patches=(Patch("            if waits:\n", "            if False:\n"),),
        test="tests/unit/test_selling.py::test_settling_says_what_it_waits_for",
    ),
    AntiTest(
        name="three-sightings",
        promise=9,
        mechanism="a difference is told when it was seen three times: before, it may be in flight",
        where=RECONCILIATION,
        patches=(Patch("SIGHTINGS = 3\n", "SIGHTINGS = 1\n"),),
        test="tests/unit/test_reconciliation.py::test_what_is_seen_twice_may_be_work_in_progress",
    ),
    AntiTest(
        name="reconciler-compares-ids",
        promise=9,
        mechanism="gate and database are compared purchase by purchase, not by sums alone",
        where=f"{RECONCILIATION}_contradiction",
        patches=(Patch("return None if ended else DriftKind.UNKNOWN_TO_GATE", "return None"),),
        test="tests/unit/test_reconciliation.py::test_each_kind_of_drift_is_found_by_its_purchase",
    ),
    AntiTest(
        name="database-read-first",
        promise=9,
        mechanism="the database is read before the gate, so work in flight is no excess of rows",
        where=f"{RECONCILIATION}Reconciler._compare_one",
        patches=(
            Patch(
                "        books = await self._catalogue.read_books(sale.sale_id)\n"
                "        expected = expected_books(books)\n"
            ),
            Patch(
                "        held = await self._held(sale)\n",
                "        held = await self._held(sale)\n"
                "        books = await self._catalogue.read_books(sale.sale_id)\n"
                "        expected = expected_books(books)\n",
            ),
        ),
        test="tests/unit/test_reconciliation.py::"
        "test_an_order_that_is_made_after_the_gate_was_read_is_no_drift",
    ),
)
