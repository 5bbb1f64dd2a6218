"""A crowd that comes in one moment, in a process of its own: it must not slow down what it times.

    python -m tests.faults.crowd http://127.0.0.1:8080 500 1

Prints one line of JSON: for each buyer how long it took in milliseconds, and what was said.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from tests.faults.buyers import Door


async def buyer(door: Door, number: int) -> tuple[float, str]:
    """Ask once; answer how long it took and what was said."""
    purchase = {"userId": number, "productId": 1, "purchaseId": f"o{number}"}
    began = time.perf_counter()
    try:
        status, said = await door.buy(json.dumps(purchase).encode())
        code = "accepted" if status == 200 else str(said["type"]).rpartition(":")[2]
    except (TimeoutError, OSError, EOFError) as nothing:
        code = f"nothing: {type(nothing).__name__}"
    return (time.perf_counter() - began) * 1_000, code


async def crowd(url: str, count: int, first: int) -> list[tuple[float, str]]:
    """Let so many come at once, on connections that are there already."""
    door = Door(url)
    for _ in range(count):
        await door.connect()
    told = await asyncio.gather(*(buyer(door, first + n) for n in range(count)))
    door.close()
    return told


if __name__ == "__main__":
    [where, how_many, from_number] = sys.argv[1:]
    found = asyncio.run(crowd(where, int(how_many), int(from_number)))
    sys.stdout.write(json.dumps(found) + "\n")
