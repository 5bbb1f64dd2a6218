"""Batches at natural boundaries, in front of any StockGate, EventBus or SaleCatalogue."""

from flashsale_coalesce.bus import CoalescingBus
from flashsale_coalesce.catalogue import CoalescingCatalogue
from flashsale_coalesce.gate import CoalescingGate

__all__ = ["CoalescingBus", "CoalescingCatalogue", "CoalescingGate"]
