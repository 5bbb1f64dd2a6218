"""Inside the gate: what one script of Redis checks and writes, and the same in memory."""

from tests.antitests.antitest import AntiTest, Patch, Server

LUA = "lua/stock_gate.lua:"
MEMORY = "src/adapters/flashsale_memory/gate.py:MemoryStockGate."
ON_REDIS = "tests/integration/test_redis_gate.py::TestRedisStockGate::"
IN_MEMORY = "tests/unit/test_memory_gate.py::TestMemoryStockGate::"

ANTITESTS = (
    AntiTest(
        name="journal",
        promise=4,
        mechanism="taking a unit and journaling the purchase is one script",
        where=f"{LUA}put",
        patches=(Patch("books.due[id] = due or false", "books.due[id] = false"),),
        test=f"{ON_REDIS}test_a_reserved_unit_is_taken_and_journaled",
        server=Server.REDIS,
    ),
    AntiTest(
        name="journal-in-memory",
        promise=4,
        mechanism="the memory gate journals in the step that takes the unit",
        where=f"{MEMORY}_claim",
        patches=(
            Patch(
                "ledger.put(record, now_ms + self._delay_ms(record.state))",
                "ledger.put(record, None)",
            ),
        ),
        test="tests/unit/test_aftercare.py::"
        "test_an_overdue_reservation_is_published_again_and_ends_as_an_order",
    ),
    AntiTest(
        name="stock-check",
        promise=1,
        mechanism="a script that takes units asks first whether so many are there",
        where=f"{LUA}refusal_of",
        patches=(Patch("if quantity > sale.available then return", "if false then return"),),
        test=f"{ON_REDIS}test_of_many_at_once_exactly_the_stock_is_sold",
        server=Server.REDIS,
    ),
    AntiTest(
        name="stock-check-in-memory",
        promise=1,
        mechanism="the same judgement for the memory gate",
        where="src/flashsale_core/validation.py:Admission.refuse",
        patches=(Patch("if quantity > self.available:", "if False:"),),
        test=f"{IN_MEMORY}test_of_many_at_once_exactly_the_stock_is_sold",
    ),
    AntiTest(
        name="duplicate-check",
        promise=3,
        mechanism="a purchase that the gate has a record of is answered by it and takes nothing",
        where=f"{LUA}judge",
        patches=(Patch("  if known then\n", "  if false then\n"),),
        test=f"{ON_REDIS}test_same_purchase_twice_takes_stock_once",
        server=Server.REDIS,
    ),
    AntiTest(
        name="duplicate-check-in-memory",
        promise=3,
        mechanism="the memory gate answers by its record too",
        where=f"{MEMORY}_claim",
        patches=(Patch("        if known is not None:\n", "        if False:\n"),),
        test=f"{IN_MEMORY}test_same_purchase_twice_takes_stock_once",
    ),
    AntiTest(
        name="duplicate-before-state",
        promise=3,
        mechanism="the record is looked at before the sale's state, so a retry is known",
        where=f"{LUA}judge",
        patches=(
            Patch(
                "  local known = books.records[id]\n",
                "  local known = books.records[id]\n"
                "  if books.sale.state == 'CLOSED' then return {'C'} end\n",
            ),
        ),
        test=f"{ON_REDIS}test_a_retry_after_close_and_after_sold_out_gets_the_old_answer",
        server=Server.REDIS,
    ),
    AntiTest(
        name="fingerprint",
        promise=3,
        mechanism="an id that comes with another user or quantity is refused",
        where=f"{LUA}judge",
        patches=(Patch("(known[4] ~= user or known[3] ~= quantity) then", "false then"),),
        test=f"{ON_REDIS}test_the_same_id_with_other_content_is_refused",
        server=Server.REDIS,
    ),
    AntiTest(
        name="worker-burns-refused-id",
        promise=3,
        mechanism="a worker's refusal burns the id: its REJECTED row will stand",
        where=f"{LUA}judge",
        patches=(Patch("if door ~= 'R' then put(", "if false then put("),),
        test=f"{ON_REDIS}test_a_refusal_by_a_worker_burns_the_id",
        server=Server.REDIS,
    ),
    AntiTest(
        name="worker-burns-in-memory",
        promise=3,
        mechanism="a worker's refusal burns the id in the memory gate",
        where=f"{MEMORY}_claim",
        patches=(Patch("            if door is not Door.HTTP:\n", "            if False:\n"),),
        test=f"{IN_MEMORY}test_a_refusal_by_a_worker_burns_the_id",
    ),
    AntiTest(
        name="http-refusal-leaves-no-trace",
        promise=5,
        mechanism="a refusal over HTTP is not stored: a crowd must not own the gate's memory",
        where=f"{LUA}judge",
        patches=(Patch("if door ~= 'R' then put(", "if true then put("),),
        test=f"{ON_REDIS}test_a_refusal_at_http_leaves_no_trace",
        server=Server.REDIS,
    ),
    AntiTest(
        name="quantity-all-or-nothing",
        promise=6,
        mechanism="who asks for more than is left gets none",
        where=f"{LUA}refusal_of",
        patches=(
            Patch("if quantity > sale.available then return", "if sale.available < 1 then return"),
        ),
        test=f"{ON_REDIS}test_quantity_is_all_or_nothing",
        server=Server.REDIS,
    ),
    AntiTest(
        name="per-user-limit",
        promise=6,
        mechanism="a user's units are summed over the sale",
        where=f"{LUA}refusal_of",
        patches=(Patch("held + quantity > sale.limit then", "quantity > sale.limit then"),),
        test=f"{ON_REDIS}test_the_limit_is_cumulative_over_the_sale",
        server=Server.REDIS,
    ),
    AntiTest(
        name="per-user-limit-in-memory",
        promise=6,
        mechanism="the same judgement for the memory gate",
        where="src/flashsale_core/validation.py:Admission.refuse",
        patches=(Patch("self.held + quantity > limit:", "quantity > limit:"),),
        test=f"{IN_MEMORY}test_the_limit_is_cumulative_over_the_sale",
    ),
    AntiTest(
        name="gates-clock",
        promise=6,
        mechanism="opening and closing go by the gate's clock, never by the buyer's",
        where=f"{LUA}refusal_of",
        patches=(
            Patch("books.now < sale.opens then", "claim[4] < sale.opens then"),
            Patch("books.now >= sale.closes then", "claim[4] >= sale.closes then"),
        ),
        test=f"{ON_REDIS}test_opening_and_closing_go_by_the_gates_clock",
        server=Server.REDIS,
    ),
    AntiTest(
        name="paused-takes-nothing-new",
        promise=6,
        mechanism="a paused or halted sale takes no new purchase and goes on with the old",
        where=f"{LUA}judge",
        patches=(
            Patch("  if sale.state == 'PAUSED' or sale.state == 'HALTED' then", "  if false then"),
        ),
        test=f"{ON_REDIS}test_paused_or_halted_only_new_units_are_refused",
        server=Server.REDIS,
    ),
    AntiTest(
        name="outside-is-not-queued",
        promise=8,
        mechanism="a unit taken for a message that promises nothing is O, and O is not Q",
        where=f"{LUA}judge",
        patches=(
            Patch(
                "local record = {1, door, quantity,",
                "local record = {1, door == 'O' and 'Q' or door, quantity,",
            ),
        ),
        test=f"{ON_REDIS}test_the_door_decides_what_a_taken_unit_promises",
        server=Server.REDIS,
    ),
    AntiTest(
        name="outside-lifts-nothing",
        promise=8,
        mechanism="the outside door's message does not prove that a purchase is queued",
        where=f"{LUA}judge",
        patches=(Patch("if door == 'Q' then lift(", "if true then lift("),),
        test=f"{ON_REDIS}test_the_outside_worker_lifts_nothing",
        server=Server.REDIS,
    ),
    AntiTest(
        name="unit-returns-once",
        promise=1,
        mechanism="only a purchase that holds a unit gives it back, and then holds none",
        where=f"{LUA}follow",
        patches=(
            Patch(
                "local before = (old and old[2] ~= 'X') and old[3] or 0",
                "local before = old and old[3] or 0",
            ),
            Patch(
                "if before > 0 then sale[old[2]]",
                "if before > 0 and old[2] ~= 'X' then sale[old[2]]",
            ),
            Patch(
                "    elseif HOLDING[record[2]] then put(books, pair[1], cut(record, 'X', pair[2])"
                ", nil) end",
                "    else put(books, pair[1], cut(record, 'X', pair[2]), nil) end",
            ),
        ),
        test=f"{ON_REDIS}test_releasing_gives_the_unit_back_once_and_burns_the_id",
        server=Server.REDIS,
    ),
    AntiTest(
        name="sold-is-final",
        promise=1,
        mechanism="what is sold is not released any more",
        where=f"{LUA}follow",
        patches=(
            Patch(
                "    elseif record[2] == 'S' then misfits = misfits + 1\n"
                "    elseif HOLDING[record[2]] then put(books, pair[1]",
                "    elseif record[2] ~= 'X' then put(books, pair[1]",
            ),
        ),
        test=f"{ON_REDIS}test_what_does_not_fit_is_counted_and_changes_nothing",
        server=Server.REDIS,
    ),
    AntiTest(
        name="conservation-halts",
        promise=9,
        mechanism="after every change the units must add up, or the sale is halted",
        where=f"{LUA}close_books",
        patches=(
            Patch(
                "if sale.initial ~= sale.available + sale.R + sale.O + sale.Q + sale.S then",
                "if false then",
            ),
        ),
        test="tests/integration/test_redis_gate.py::test_books_that_do_not_add_up_halt_the_sale",
        server=Server.REDIS,
    ),
)
