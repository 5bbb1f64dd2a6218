"""In the database: one transaction, which arbitrates."""

from tests.antitests.antitest import AntiTest, Patch, Server

SQL = "src/adapters/flashsale_sql/"
RECORDING = f"{SQL}recording.py:Recording."
CONTRACTS = "tests/integration/test_sql_contracts.py::"
RACES = "tests/integration/test_sql_races.py::"

ANTITESTS = (
    AntiTest(
        name="database-arbitrates",
        promise=9,
        mechanism="units that the database does not have make no order, whatever the gate says",
        where=f"{SQL}recording.py:_fit",
        patches=(Patch("if one.quantity > left.get(one.sale_id, 0):", "if False:"),),
        test=f"{CONTRACTS}TestOrdersInSqlite::"
        "test_units_that_the_database_does_not_have_prove_the_gate_wrong",
        reddens_by="Corrupt",
    ),
    AntiTest(
        name="check-constraint",
        promise=1,
        mechanism="the table itself refuses fewer than no units",
        where=f"{SQL}migrations/versions/r0001_first_tables.py:_sales",
        patches=(
            Patch(
                '        sa.CheckConstraint("available >= 0", name="sales_never_oversold"),\n',
            ),
        ),
        test="tests/integration/test_sql_migrations.py::"
        "test_the_tables_refuse_what_must_never_be[sqlite-sales-row0-wrong0-sales_never_oversold]",
    ),
    AntiTest(
        name="drift-halts-the-row",
        promise=9,
        mechanism="a gate that is proven wrong halts the sale in the same transaction",
        where=f"{RECORDING}_reject",
        patches=(
            Patch(
                ".values(state=SaleState.HALTED.value, state_since=at_ms)",
                ".values(state_since=at_ms)",
            ),
        ),
        test=f"{CONTRACTS}TestOrdersInSqlite::"
        "test_units_that_the_database_does_not_have_prove_the_gate_wrong",
    ),
    AntiTest(
        name="drift-halts-the-gate",
        promise=9,
        mechanism="the worker that met the drift halts the gate and raises the alarm",
        where="src/flashsale_core/fulfilment.py:Fulfilment._follow",
        patches=(
            Patch("                await self._gate.set_state(sale_id, epoch, SaleState.HALTED)\n"),
        ),
        test="tests/unit/test_fulfilment.py::test_a_gate_proven_wrong_halts_the_sale",
    ),
    AntiTest(
        name="drifted-units-stay-held",
        promise=9,
        mechanism="what the database refused stays held until a rebuild",
        where="src/flashsale_core/fulfilment.py:follow_batch",
        patches=(
            Patch(
                "    rows = [row for row in rows if row.reason != Reason.GATE_DRIFT]\n",
                "    rows = list(rows)\n",
            ),
        ),
        test="tests/unit/test_fulfilment.py::test_a_gate_proven_wrong_halts_the_sale",
    ),
    AntiTest(
        name="epoch-in-record",
        promise=8,
        mechanism="a batch commits only under the epoch in which the gate held its units",
        where=f"{SQL}fences.py:Fences.check",
        patches=(Patch("if sale_id not in held or held[sale_id].epoch != epoch:", "if False:"),),
        test=f"{CONTRACTS}TestOrdersInSqlite::test_a_batch_of_an_old_epoch_writes_nothing",
    ),
    AntiTest(
        name="promised-epoch-rule",
        promise=8,
        mechanism="without its gate a sale records only the promises of the life loaded last",
        where=f"{SQL}fences.py:Fences.check",
        patches=(
            Patch("not epoch == row.armed_epoch < row.epoch", "not row.armed_epoch < row.epoch"),
        ),
        test=f"{CONTRACTS}TestRebuildsInSqlite::"
        "test_a_worker_that_stalled_across_a_whole_rebuild_records_nothing",
    ),
    AntiTest(
        name="row-that-stands",
        promise=3,
        mechanism="a purchase has one row, and the first that is written stands",
        where=f"{SQL}statements/sqlite/insert_orders.sql:",
        patches=(
            Patch(
                "on conflict (sale_id, purchase_id) do nothing",
                "on conflict (sale_id, purchase_id) do update\n"
                "set status = excluded.status, reason = excluded.reason",
            ),
        ),
        test=f"{CONTRACTS}TestOrdersInSqlite::test_the_row_that_stands_wins_over_a_later_decision",
    ),
    AntiTest(
        name="row-that-stands-in-postgresql",
        promise=3,
        mechanism="the same, between two workers at once",
        where=f"{SQL}statements/postgresql/insert_orders.sql:",
        patches=(
            Patch(
                "on conflict (sale_id, purchase_id) do nothing",
                "on conflict (sale_id, purchase_id) do update\n"
                "set status = excluded.status, reason = excluded.reason",
            ),
        ),
        test=f"{CONTRACTS}TestOrdersInPostgresql::"
        "test_the_row_that_stands_wins_over_a_later_decision",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="one-transaction",
        promise=14,
        mechanism="orders, units and facts are one transaction: all of it or nothing",
        where=f"{RECORDING}record",
        patches=(
            Patch(
                "        reasons = {_key_of(decision): decision.reason for decision in new}\n",
                "        await connection.commit()\n"
                "        reasons = {_key_of(decision): decision.reason for decision in new}\n",
            ),
        ),
        test=f"{CONTRACTS}TestOrdersInSqlite::test_a_batch_of_an_old_epoch_writes_nothing",
    ),
    AntiTest(
        name="outbox-with-the-row",
        promise=14,
        mechanism="the transaction that writes an order writes its event",
        where=f"{RECORDING}record",
        patches=(Patch("        await self._write_facts(connection, final, reasons, at_ms)\n"),),
        test=f"{CONTRACTS}TestOrdersInSqlite::test_a_new_row_tells_one_event",
        reddens_by="ValueError",
    ),
    AntiTest(
        name="told-before-forgotten",
        promise=14,
        mechanism="a fact leaves the outbox only after the broker has it",
        where=f"{SQL}outbox.py:SqlOutbox._relay_under_lease",
        patches=(
            Patch(
                "            await publish(events)\n        except BaseException:\n"
                "            free = update(outbox)",
                "            await self._transactions.write("
                "lambda connection: connection.execute(delete(outbox).where(mine)))\n"
                "            await publish(events)\n        except BaseException:\n"
                "            free = update(outbox)",
            ),
        ),
        test=f"{CONTRACTS}TestOutboxInSqlite::test_all_facts_stay_when_telling_fails",
    ),
    AntiTest(
        name="skip-locked-outbox",
        promise=14,
        mechanism="relays side by side skip each other's facts",
        where=f"{SQL}outbox.py:_take",
        patches=(Patch(".with_for_update(skip_locked=True)"),),
        test=f"{CONTRACTS}TestOutboxInPostgresql::test_relays_side_by_side_tell_different_facts",
        server=Server.POSTGRESQL,
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="lock-order-orders",
        promise=2,
        mechanism="every batch locks its orders in ascending order, so no two deadlock",
        where=f"{RECORDING}_write_orders",
        patches=(Patch("sorted(decisions, key=_key_of)", "list(decisions)"),),
        test=f"{RACES}test_workers_with_the_same_purchases_in_opposite_orders_never_deadlock",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="lock-order-sales",
        promise=2,
        mechanism="sales are locked in ascending order too, and last",
        where=f"{SQL}fences.py:lock_sales",
        patches=(
            Patch(
                "        .order_by(sales.c.sale_id)\n",
                "        .order_by(sales.c.sale_id.desc())\n",
            ),
        ),
        test=f"{RACES}test_sales_are_locked_in_ascending_order",
        server=Server.POSTGRESQL,
    ),
    AntiTest(
        name="sales-locked-last",
        promise=2,
        mechanism="the sales' rows, which all batches meet, are locked at the end alone",
        where=f"{RECORDING}record",
        patches=(
            Patch(
                "        written = await self._write_orders(connection, decisions, at_ms)\n",
                "        await lock_sales(connection, {one.sale_id for one in decisions})\n"
                "        written = await self._write_orders(connection, decisions, at_ms)\n",
            ),
        ),
        test=f"{RACES}test_a_batch_holds_its_sale_only_at_its_end",
        server=Server.POSTGRESQL,
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="lock-order-parked",
        promise=2,
        mechanism="parked messages are written in ascending order",
        where=f"{SQL}parked_messages.py:SqlParkedMessages.park",
        patches=(Patch("[first[key] for key in sorted(first)]", "list(first.values())"),),
        test=f"{RACES}test_messages_are_parked_in_ascending_order",
        server=Server.POSTGRESQL,
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="unknown-item-or-lost-gate",
        promise=15,
        mechanism="UNKNOWN_ITEM commits only while the item has no sale",
        where=f"{RECORDING}_refuse_known_items",
        patches=(Patch("        if known is not None:\n", "        if False:\n"),),
        test=f"{CONTRACTS}TestOrdersInSqlite::"
        "test_an_item_that_has_a_sale_is_never_recorded_as_unknown",
    ),
    AntiTest(
        name="unknown-item-lock",
        promise=15,
        mechanism="whoever records UNKNOWN_ITEM waits for a sale of the item that is being made",
        where=f"{RECORDING}_refuse_known_items",
        patches=(Patch("if self._dialect.has_advisory_locks:", "if False:"),),
        test=f"{RACES}test_an_unknown_item_waits_for_the_sale_that_is_being_made",
        server=Server.POSTGRESQL,
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="sale-lock",
        promise=15,
        mechanism="whoever makes a sale waits for an UNKNOWN_ITEM that is being recorded",
        where=f"{SQL}sale_catalogue.py:SqlSaleCatalogue.create",
        patches=(Patch("if self._transactions.dialect.has_advisory_locks:", "if False:"),),
        test=f"{RACES}test_a_sale_waits_for_the_unknown_item_that_is_being_recorded",
        server=Server.POSTGRESQL,
        reddens_by="TimeoutError",
    ),
)
