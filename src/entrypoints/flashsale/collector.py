"""How the garbage collector is kept out of the way of purchases."""

import gc

COLLECTOR_THRESHOLDS = (50_000, 20, 50)
"""Objects, some 10 MB of them, that may gather before the collector looks at the young ones."""


def calm_collector() -> None:
    """Let the garbage collector look at what is young, and at that seldom.

    What a process is made of lives as long as the process, and looking through it again and again
    took a fifth of the time of a purchase. Purchases leave no cycles, only failures do. Only for
    processes of our own: the collector of a host that mounts us is the host's.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
