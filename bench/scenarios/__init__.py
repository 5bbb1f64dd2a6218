"""What is measured; `ALL` names the scenarios in the order that they run in, by bus."""

from bench.scenarios.crowds import flash_crowd
from bench.scenarios.doors import accepted, sold_out
from bench.scenarios.drains import drain, outside_drain
from bench.scenarios.gates import gate_alone
from bench.scenarios.growing import growing_sale, many_sales

ON_KAFKA = (
    gate_alone,
    accepted,
    sold_out,
    flash_crowd,
    drain,
    outside_drain,
    many_sales,
    growing_sale,
)
ON_RABBITMQ = (accepted, drain)
SMOKED = (gate_alone, accepted)
"""Enough to see that the bench itself works."""
