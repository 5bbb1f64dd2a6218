"""A lost gate comes to life again: what keeps every promise, and no unit twice."""

from tests.antitests.antitest import AntiTest, Patch, Server

REBUILD = "src/flashsale_core/rebuild.py:Rebuild."
WITHOUT_GATE = "src/flashsale_core/without_gate.py:WithoutGate.decide"
SQL = "src/adapters/flashsale_sql/"
TESTS = "tests/unit/test_rebuild.py::"
COLD_PATH = "tests/unit/test_fulfilment.py::"
ON_SQLITE = "tests/integration/test_sql_contracts.py::TestRebuildsInSqlite::"
RACES = "tests/integration/test_sql_races.py::"

ANTITESTS = (
    AntiTest(
        name="barrier",
        promise=8,
        mechanism="the books are read only when every partition's barrier is passed",
        where=f"{REBUILD}_next_lives",
        patches=(
            Patch(
                "        if lost_meanwhile := await self._drain(raised):\n",
                "        if lost_meanwhile := []:\n",
            ),
        ),
        test=f"{TESTS}test_what_waits_on_the_bus_is_in_the_new_books",
    ),
    AntiTest(
        name="barrier-after-parking",
        promise=8,
        mechanism="a barrier is passed after what its batch left over was set aside",
        where="src/flashsale_core/parking.py:Parking._fulfil",
        patches=(
            Patch(
                "        await self._set_aside([parked for of_one in done.left "
                "for parked in of_one])\n"
            ),
            Patch(
                "            await self._rebuilds.pass_barrier(rebuild_id, partition)\n",
                "            await self._rebuilds.pass_barrier(rebuild_id, partition)\n"
                "        await self._set_aside([parked for of_one in done.left "
                "for parked in of_one])\n",
            ),
        ),
        test="tests/unit/test_parking.py::"
        "test_a_barrier_is_not_passed_before_what_came_before_it_is_set_aside",
    ),
    AntiTest(
        name="rebuilds-wait",
        promise=8,
        mechanism="nothing is read until nobody can promise under the old epoch any more",
        where=f"{REBUILD}_next_lives",
        patches=(
            Patch(
                "await self._wait(REFRESH_MS + PROMISE_MS + later_ms)", "await self._wait(later_ms)"
            ),
        ),
        test=f"{TESTS}test_nobody_may_promise_under_the_old_life_when_the_books_are_read",
    ),
    AntiTest(
        name="rebuild-waits-for-lag",
        promise=8,
        mechanism="with replicas it waits as long as a cut-off primary may go on",
        where=f"{REBUILD}_next_lives",
        patches=(
            Patch(
                "await self._wait(REFRESH_MS + PROMISE_MS + later_ms)",
                "await self._wait(REFRESH_MS + PROMISE_MS)",
            ),
        ),
        test=f"{TESTS}test_a_primary_that_may_go_on_for_a_while_is_waited_for",
    ),
    AntiTest(
        name="survivors",
        promise=8,
        mechanism="what the lost gate still names as taken and unconfirmed is published",
        where=f"{REBUILD}_next_lives",
        patches=(
            Patch(
                "        for sale in raised:\n"
                "            await self._publish_survivors(sale.sale_id)\n"
            ),
        ),
        test=f"{TESTS}test_purchases_of_unknown_outcome_that_survived_go_through",
    ),
    AntiTest(
        name="one-rebuild-at-a-time",
        promise=8,
        mechanism="one rebuild is at work, and a second is told so",
        where="src/adapters/flashsale_memory/rebuilds.py:MemoryRebuilds.alone",
        patches=(
            Patch(
                "        if self._lock.locked():\n            yield False\n            return\n"
                "        async with self._lock:\n            yield True\n",
                "        yield True\n",
            ),
        ),
        test=f"{TESTS}test_two_rebuilds_at_once_are_one",
        reddens_by="Unavailable",
    ),
    AntiTest(
        name="rebuild-lock",
        promise=8,
        mechanism="in PostgreSQL an advisory lock says so to every process",
        where=f"{SQL}rebuilds.py:SqlRebuilds.alone",
        patches=(Patch("                yield bool(is_mine)\n", "                yield True\n"),),
        test=f"{RACES}test_two_processes_do_not_rebuild_at_once",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="one-loader-per-epoch",
        promise=8,
        mechanism="the books of an epoch are given to one caller alone",
        where=f"{SQL}sale_catalogue.py:SqlSaleCatalogue.books",
        patches=(Patch("            .where(sales.c.armed_epoch < epoch)\n"),),
        test=f"{ON_SQLITE}test_of_several_loaders_of_one_life_one_gets_the_books",
    ),
    AntiTest(
        name="lock-before-read",
        promise=8,
        mechanism="the books are read under the sale's lock: a batch is in them or cannot commit",
        where=f"{SQL}sale_catalogue.py:SqlSaleCatalogue.books",
        patches=(
            Patch(
                "            begun = (await connection.execute(begin))",
                "            early = await books_of(connection, "
                "await _known(connection, sale_id))\n"
                "            begun = (await connection.execute(begin))",
            ),
            Patch(
                "            return await books_of(connection, _sale(begun))\n",
                "            return SaleBooks(sale=_sale(begun), records=early.records)\n",
            ),
        ),
        test=f"{RACES}test_the_books_wait_for_the_batch_that_is_under_way",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="epoch-in-message",
        promise=8,
        mechanism="a message says in which life it was promised; one of an earlier life waits",
        where=WITHOUT_GATE,
        patches=(
            Patch(
                "if one.accepted is None or one.epoch != now.armed_epoch:",
                "if one.accepted is None:",
            ),
            Patch(
                "work.promised[sale.sale_id] = one.epoch",
                "work.promised[sale.sale_id] = now.armed_epoch",
            ),
        ),
        test=f"{COLD_PATH}"
        "test_a_late_message_of_an_earlier_life_promises_nothing_while_the_gate_is_lost",
    ),
    AntiTest(
        name="older-epoch-is-outside",
        promise=8,
        mechanism="a message of an older epoch competes like one from outside",
        where="src/flashsale_core/fulfilment.py:Fulfilment._from_accepted",
        patches=(Patch("fact.epoch == sale.epoch and not was_parked", "True"),),
        test=f"{COLD_PATH}test_a_message_of_an_older_epoch_does_not_prove_that_a_purchase_is_queued",
    ),
    AntiTest(
        name="no-row-before-the-rebuild",
        promise=8,
        mechanism="promises of a lost gate wait, and their partition with them, for a rebuild",
        where=WITHOUT_GATE,
        patches=(
            Patch("            elif now.armed_epoch < now.epoch:\n", "            elif True:\n"),
            # The fence of the transaction is the second net.
            Patch(
                "not epoch == sale.armed_epoch < sale.epoch",
                "not epoch == sale.armed_epoch",
                file="src/adapters/flashsale_memory/order_repository.py",
            ),
        ),
        test=f"{COLD_PATH}test_promises_of_a_lost_gate_wait_until_a_rebuild_begins",
    ),
    AntiTest(
        name="init-does-not-load",
        promise=8,
        mechanism="only a sale that was never armed is armed without a drain",
        where="src/flashsale_core/selling.py:SaleDesk.init",
        patches=(
            Patch("if sale.armed_epoch == 0:", "if True:"),
            # One loader an epoch is the second net.
            Patch(
                "known.armed_epoch < epoch == known.epoch",
                "epoch == known.epoch",
                file="src/adapters/flashsale_memory/sale_catalogue.py",
            ),
        ),
        test="tests/unit/test_selling.py::test_a_sale_that_lost_its_gate_is_not_quietly_made_again",
    ),
    AntiTest(
        name="parked-units-are-loaded",
        promise=8,
        mechanism="a unit that a parked message holds is in the books",
        where=f"{SQL}books.py:_records",
        patches=(
            Patch("for record in await _parked_units(connection, sale_id):", "for record in ():"),
        ),
        test="tests/integration/test_sql_contracts.py::TestCatalogueInSqlite::"
        "test_a_parked_unit_stays_held_through_a_rebuild",
    ),
    AntiTest(
        name="parked-unit-is-judged",
        promise=8,
        mechanism="a unit promised before the life that is loaded is not held by its letter",
        where=f"{SQL}parked_messages.py:_judged",
        patches=(
            Patch(
                "        if one.promised_under is not None and "
                "one.promised_under < armed.get(one.sale_id, 0)\n",
                "        if False\n",
            ),
        ),
        test=f"{ON_SQLITE}test_a_unit_of_a_life_before_the_loaded_one_is_not_held",
    ),
    AntiTest(
        name="parked-unit-under-the-lock",
        promise=8,
        mechanism="that is judged under the sale's lock, which whoever loads the books takes too",
        where=f"{SQL}parked_messages.py:_judged",
        patches=(Patch("        .with_for_update(read=True)\n"),),
        test=f"{RACES}test_a_unit_is_parked_before_the_books_are_read_or_is_not_held",
        server=Server.POSTGRESQL,
        reddens_by="TimeoutError",
    ),
)
