"""Hypothesis strategies for every value of the domain: whatever they draw is valid.

    @given(purchase_requests(quantity=quantities(max_value=3)))
    def test_my_rule_never_refuses_a_small_basket(request): ...

A strategy of a class takes, by attribute name, a strategy of your own for any field; the other
fields keep theirs. Where fields depend on one another (a sale's books, an order's status and
reason) the values agree, unless you replace one of them.
"""

from flashsale_core.testing.strategies.answers import (
    buy_answers,
    gate_answers,
    rate_limits_reached,
    refusals,
)
from flashsale_core.testing.strategies.charges import (
    charge_answers,
    charges,
    due_payments,
    flagged_payments,
    look_up_answers,
    payment_counts,
)
from flashsale_core.testing.strategies.messages import (
    accepted_purchases,
    barriers,
    messages,
    order_events,
    parked_messages,
    purchases_accepted,
)
from flashsale_core.testing.strategies.sale import (
    gate_records,
    orders,
    purchase_requests,
    sale_terms,
    sales,
)
from flashsale_core.testing.strategies.words import (
    epochs,
    event_ids,
    identifiers,
    item_ids,
    payment_tokens,
    purchase_ids,
    quantities,
    reasons,
    refusal_codes,
    rounds,
    sale_ids,
    sources,
    times_ms,
    traceparents,
    user_ids,
)

__all__ = [
    "accepted_purchases",
    "barriers",
    "buy_answers",
    "charge_answers",
    "charges",
    "due_payments",
    "epochs",
    "event_ids",
    "flagged_payments",
    "gate_answers",
    "gate_records",
    "identifiers",
    "item_ids",
    "look_up_answers",
    "messages",
    "order_events",
    "orders",
    "parked_messages",
    "payment_counts",
    "payment_tokens",
    "purchase_ids",
    "purchase_requests",
    "purchases_accepted",
    "quantities",
    "rate_limits_reached",
    "reasons",
    "refusal_codes",
    "refusals",
    "rounds",
    "sale_ids",
    "sale_terms",
    "sales",
    "sources",
    "times_ms",
    "traceparents",
    "user_ids",
]
