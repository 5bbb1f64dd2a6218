"""Traces: whole where they are wanted, nothing where they are not, and in nobody's way."""

from tests.antitests.antitest import AntiTest, Patch

OTEL = "src/adapters/flashsale_otel/"
TREE = "tests/unit/test_traces.py::"
OPENING = "tests/unit/test_traces_opening.py::"
WHOLE = f"{TREE}test_a_purchase_is_one_trace_from_gate_to_event"

ANTITESTS = (
    AntiTest(
        name="traces-off-are-nothing",
        promise=23,
        mechanism="where nothing is traced, the hot path is the handler without a question for it",
        where="src/entrypoints/flashsale/http/app.py:http_app",
        patches=(
            Patch(
                "BuyHandler(parts) if parts.traces is None else "
                "TracedBuyHandler(parts, parts.traces)",
                "TracedBuyHandler(parts, parts.traces)  # type: ignore[arg-type]",
            ),
        ),
        test="tests/unit/test_traces_off.py::"
        "test_off_every_port_and_use_case_is_what_its_adapter_made",
    ),
    AntiTest(
        name="traces-begin-at-the-door",
        promise=23,
        mechanism="the server's own context is what the purchase takes along",
        where="src/entrypoints/flashsale/http/traced_buy.py:TracedBuyHandler.begin",
        patches=(
            Patch("        ours = [(HEADER, trace.traceparent.encode())]\n", "        ours = []\n"),
        ),
        test=f"{TREE}test_the_server_begins_the_trace_and_its_own_context_travels",
    ),
    AntiTest(
        name="traces-go-on-in-the-message",
        promise=23,
        mechanism="who takes a promise goes on below the span that sent it",
        where=f"{OTEL}bus.py:TracedBus._below",
        patches=(
            Patch(
                "        return attrs.evolve(fact, purchases=purchases)\n", "        return fact\n"
            ),
        ),
        test=WHOLE,
    ),
    AntiTest(
        name="traces-go-on-in-the-row",
        promise=23,
        mechanism="a row's payment and event go on below the work that recorded it",
        where=f"{OTEL}database.py:TracedOrders.record",
        patches=(
            Patch(
                "            else attrs.evolve(decision, traceparent=written(member.context))\n",
                "            else decision\n",
            ),
        ),
        test=WHOLE,
    ),
    AntiTest(
        name="traces-keep-batches-of-what-is-kept",
        promise=23,
        mechanism="a batch is recorded as the first purchase that it links to is, not by chance",
        where=f"{OTEL}sampling.py:BatchesAsTheirPurchases.should_sample",
        patches=(
            Patch("            parent_context, trace_id = below(purchase), purchase.trace_id\n"),
        ),
        test=f"{TREE}test_a_batch_is_recorded_as_its_first_purchase_is",
    ),
    AntiTest(
        name="traces-link-every-purchase",
        promise=23,
        mechanism="a batch links to every purchase of a transaction",
        where=f"{OTEL}opening.py:provider_of",
        patches=(Patch("SpanLimits(max_links=None if has_own else LINKS_MAX)", "SpanLimits()"),),
        test=f"{OPENING}test_a_batch_may_link_to_every_purchase_of_a_transaction",
    ),
    AntiTest(
        name="traces-end-in-their-time",
        promise=23,
        mechanism="a stop waits a second at most for whoever should take the last spans",
        where=f"{OTEL}exporting.py:_shut_down",
        patches=(
            Patch(
                "        async with asyncio.timeout(flush_s):\n            await done.wait()\n",
                "        await done.wait()\n",
            ),
        ),
        test=f"{OPENING}test_leaving_waits_for_a_silent_collector_no_longer_than_its_share",
    ),
    AntiTest(
        name="traces-are-lost-in-one-line",
        promise=23,
        mechanism="a collector that is away is told of once, and once when it is back",
        where=f"{OTEL}exporting.py:TellingExporter.export",
        patches=(
            Patch(
                '        if not self._lost:\n            LOG.warning("spans are lost',
                '        if spans:\n            LOG.warning("spans are lost',
            ),
        ),
        test=f"{OPENING}test_a_collector_that_is_away_is_told_of_once_and_once_when_it_is_back",
    ),
)
