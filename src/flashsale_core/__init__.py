"""A pure domain core for flash sales: what a purchase is, what a gate may answer, what must follow.

Needs attrs alone. The ports in `flashsale_core.ports` are the whole of what it asks of the world.
"""
