"""Batches at natural boundaries, in front of any StockGate, EventBus or SaleCatalogue.

And breakers, so that nobody waits behind a server that is silent.
"""

from flashsale_coalesce.bounding import Bounds
from flashsale_coalesce.breaker import Breaker
from flashsale_coalesce.bus import CoalescingBus
from flashsale_coalesce.catalogue import CoalescingCatalogue
from flashsale_coalesce.gate import CoalescingGate
from flashsale_coalesce.guarding import GuardedBus, GuardedDatabase, GuardedGate

__all__ = [
    "Bounds",
    "Breaker",
    "CoalescingBus",
    "CoalescingCatalogue",
    "CoalescingGate",
    "GuardedBus",
    "GuardedDatabase",
    "GuardedGate",
]
