"""The page that plans one sale, computed from the last full benchmark."""

import json
from math import ceil
from pathlib import Path
from typing import Any

from bench.scaling import BUSY_MAX, MICRO, SHARE_MAX
from bench.table import LATEST
from flashsale.settings import Settings

BUYERS, UNITS, RUSH_S, TRIES, DRAIN_S = 600_000, 50_000, 10, 1.5, 30
ASKED = round(BUYERS * TRIES)
AGAIN = ASKED - BUYERS
"""Taken to bring an id."""
MIB = 2**20
PER_WORKER = 4
"""Partitions for each worker, so that the load is spread evenly."""

TEMPLATE = Path(__file__).with_name("plan-capacity.template")


def page() -> str:
    """Write the page."""
    return TEMPLATE.read_text("utf-8").format(**_figures(json.loads(LATEST.read_text("utf-8"))))


def _figures(found: dict[str, Any]) -> dict[str, str]:
    costs, settings = found["costs"], Settings()
    accept, drain = costs["accept, kafka"], costs["drain, kafka"]
    late, named = costs["sold out, no purchase id"], costs["sold out, with a purchase id"]
    too_late = BUYERS - UNITS
    api = [UNITS * accept["api"], too_late * late["api"], AGAIN * named["api"]]
    redis = [UNITS * accept["redis"], AGAIN * named["redis"]]
    one_item = MICRO / accept["redis"] * SHARE_MAX
    orders = UNITS / DRAIN_S
    processes, workers = _cores(sum(api) / RUSH_S), _cores(orders * drain["worker"])
    fits = sum(redis) / MICRO <= RUSH_S * SHARE_MAX
    connections = settings.database_connections
    [memory] = [row for row in found["rows"] if row["figure"] == "Redis at its fullest"]
    return {
        "date": found["date"],
        "cpu": found["machine"]["cpu"],
        "units": f"{UNITS:,}",
        "buyers": f"{BUYERS:,}",
        "tries": str(TRIES),
        "rush": str(RUSH_S),
        "rate": f"{ASKED / RUSH_S:,.0f}",
        "late": f"{too_late:,}",
        "again": f"{AGAIN:,}",
        "asked": f"{ASKED:,}",
        "busy": f"{BUSY_MAX:.0%}",
        "busy_ratio": str(BUSY_MAX),
        "accept_api": f"{accept['api']:.1f}",
        "late_api": f"{late['api']:.1f}",
        "named_api": f"{named['api']:.1f}",
        "accept_cpu": _seconds(api[0]),
        "late_cpu": _seconds(api[1]),
        "named_cpu": _seconds(api[2]),
        "api_cpu": _seconds(sum(api)),
        "processes": str(processes),
        "accept_redis": f"{accept['redis']:.1f}",
        "named_redis": f"{named['redis']:.1f}",
        "accept_redis_cpu": _seconds(redis[0]),
        "named_redis_cpu": _seconds(redis[1]),
        "redis_cpu": _seconds(sum(redis)),
        "redis_verdict": "one core is enough"
        if fits
        else "too much for one core, so split the stock",
        "one_item": f"{round(one_item, -2):,.0f}",
        "sold_in": f"{UNITS / one_item:.1f}",
        "redis_bytes": f"{memory['value']:.0f}",
        "redis_mib": f"{UNITS * memory['value'] / MIB:.0f}",
        "drain": str(DRAIN_S),
        "order_rate": f"{orders:,.0f}",
        "worker": f"{drain['worker']:.1f}",
        "workers": str(workers),
        "workers_and_one": str(workers + 1),
        "postgres": f"{drain['postgres']:.1f}",
        "postgres_cores": str(_cores(orders * drain["postgres"])),
        "kafka": f"{drain['kafka']:.1f}",
        "kafka_cores": str(_cores(orders * drain["kafka"])),
        "per_worker": str(PER_WORKER),
        "partitions": str((workers + 1) * PER_WORKER),
        "partitions_default": str(settings.partitions),
        "connections": str(connections),
        "all_connections": str((processes + workers + 1) * connections),
    }


def _cores(micros_a_second: float) -> int:
    return ceil(micros_a_second / MICRO / BUSY_MAX)


def _seconds(micros: float) -> str:
    return f"{micros / MICRO:.1f}"
