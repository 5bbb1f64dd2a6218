"""`make board`: a real sale, read by a real Prometheus, drawn as the board would show it.

Two API processes, a worker that is killed and begun again in the middle, Redis, Kafka, PostgreSQL,
and buyers of an open model. Each panel asks Prometheus its own query; a panel that finds nothing
fails the run. Grafana itself has no part in the picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.board.draw import Drawing, Points
from tests.deploy.queries import board
from tests.integration.engine import ROOT, Engine, ask, engine, own_names
from tests.integration.outside import Sent, sender
from tests.servers import running_kafka, running_postgres, running_redis
from tests.servers.launch import program
from tests.servers.prometheus import Prometheus, running_prometheus

Answers = dict[str, Any]
PICTURE = ROOT / "docs" / "pictures" / "board.png"
ITEM, UNITS = "1", 20_000
OTHER_ITEM, OTHER_UNITS = "2", 250
CROWD = ((60, 20), (500, 15), (700, 25), (900, 20), (150, 20))
"""Buyers a second, and for how many seconds: early birds, the opening, the rush, the late."""
OUTSIDE_S, OUTSIDE_A_SECOND = 80, 4
PAUSED_S, SPOILED_AT_S = (15, 30), 70
"""Another item's sale, asked for from outside: when it rests, and when two messages are broken."""
WORKER_DIES_S, WORKER_IS_BACK_S = 45.0, 10.0
RATE_S = 10
"""Over how many seconds rates are taken, where Grafana would choose by its own width."""
CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)


def main(arguments: list[str]) -> int:
    """Sell, draw, and look whether all is told; with a file of answers, draw it again."""
    kept = Path(arguments[0]) if arguments else None
    with tempfile.TemporaryDirectory(prefix="flashsale-board-") as made:
        folder = Path(made)
        if kept is not None and kept.exists():
            answers = json.loads(kept.read_text("utf-8"))
        else:
            answers = sold_and_asked(folder)
        if kept is not None:
            kept.write_text(json.dumps(answers), "utf-8")
        (folder / "board.svg").write_text(drawing(answers), "utf-8")
        photographed(folder / "board.svg", folder)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
    return 0


def sold_and_asked(folder: Path) -> Answers:
    """Sell to a crowd; answer what Prometheus says to each query of the board."""
    with sale(folder) as (ours, prometheus):
        begin, end = (float(int(moment)) for moment in sold(ours, prometheus))
        found: dict[str, list[Any]] = {}
        for panel in board()["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", f"{RATE_S}s")
                query = query.replace("$sale", ".*")
                found[target["expr"]] = prometheus.query_range(query, begin, end, 1)
    return {"begin": begin, "end": end, "found": found}


@contextlib.contextmanager
def sale(folder: Path) -> Iterator[tuple[Engine, Prometheus]]:
    """Have an engine on servers of its own, read once a second."""
    with contextlib.ExitStack() as running:
        enter = running.enter_context
        redis = enter(running_redis(ours=True))
        postgres = enter(running_postgres(ours=True))
        kafka = enter(running_kafka(ours=True))
        settings = {
            **own_names(),
            "FLASHSALE_GATE_URL": redis.url,
            "FLASHSALE_BUS_URL": kafka.url,
            "FLASHSALE_DATABASE_URL": postgres.create_database(),
            "FLASHSALE_HTTP_PROCESSES": "2",
            "FLASHSALE_SAMPLE_INTERVAL_MS": "1000",
            "FLASHSALE_RECONCILE_INTERVAL_MS": "5000",
        }
        ours = enter(engine(folder, settings))
        ours.prepare()
        for kind in ("serve", "worker"):
            ours.start(kind).wait_until_ready()
        door, worker = (one.url.removeprefix("http://") for one in ours.programs)
        targets = {"flashsale-api": [door], "flashsale-worker": [worker]}
        yield ours, enter(running_prometheus(targets))


def sold(ours: Engine, prometheus: Prometheus) -> tuple[float, float]:
    """Let the crowd come; answer when it began and ended."""
    door, worker = ours.programs
    address = worker.url.removeprefix("http://")
    for item, units in ((ITEM, UNITS), (OTHER_ITEM, OTHER_UNITS)):
        opened = ask("POST", f"{door.url}/purchase/init?productId={item}&stock={units}")
        assert opened.status == 200, opened
    time.sleep(RATE_S)
    others = threading.Thread(target=lambda: asyncio.run(outsiders(ours)), daemon=True)
    others.start()
    begin, first, is_dead = time.time(), 1, False
    for rate, seconds in CROWD:
        words = [f"--rate={rate}", f"--buyers={rate * seconds}", f"--first={first}"]
        command = [sys.executable, "-m", "bench.open_model", door.url, "--clients=128", *words]
        told = ours.folder / f"crowd-{first}.json"
        with told.open("wb") as out:
            coming = subprocess.Popen(command, cwd=ROOT, stdout=out)
        while coming.poll() is None:
            gone = time.time() - begin
            if not is_dead and gone > WORKER_DIES_S:
                worker.kill()
                is_dead = True
            is_gone = worker.process.poll() is not None
            if is_gone and gone > WORKER_DIES_S + WORKER_IS_BACK_S:
                worker = ours.start("worker", FLASHSALE_WORKER_HTTP=address)
            time.sleep(0.2)
        said = json.loads(told.read_bytes())
        print(f"{rate}/s: {said['answers']}, {said['milliseconds']}")
        first += rate * seconds
    others.join()
    time.sleep(3)
    for alert in prometheus.alerts():
        print(f"alert: {alert['labels']} {alert['state']}")
    return begin, time.time()


async def outsiders(ours: Engine) -> None:
    """Ask for another item as other services do; its sale is paused for a while."""
    codec = AvroCodec()
    async with sender(ours) as send:
        for number in range(OUTSIDE_S * OUTSIDE_A_SECOND):
            wanted = PurchaseRequest(
                purchase_id=PurchaseId(f"outside-{number}"),
                user_id=UserId(f"{number}"),
                item_id=ItemId(OTHER_ITEM),
                requested_at_ms=int(time.time() * 1_000),
            )
            bodies = [codec.encode(wanted).body]
            second = number / OUTSIDE_A_SECOND
            if second == SPOILED_AT_S:
                bodies += [b"no Avro", b"none either"]
            if second in PAUSED_S:
                verb = "pause" if second == PAUSED_S[0] else "resume"
                await asyncio.to_thread(ours.must, "sale", verb, f"{OTHER_ITEM}.1")
            await send([Sent(key=b"k", body=body) for body in bodies])
            await asyncio.sleep(1 / OUTSIDE_A_SECOND)


def drawing(answers: Answers) -> str:
    """Draw the board from what Prometheus answered."""

    def asked(query: str) -> Iterable[tuple[Mapping[str, str], Points]]:
        for series in answers["found"][query]:
            points = [(float(at), float(value)) for at, value in series["values"]]
            points = [point for point in points if isfinite(point[1])]
            if points:
                yield series["metric"], points

    note = "a real sale, drawn by `make board` from the board's own queries"
    return Drawing(board(), asked, answers["begin"], answers["end"]).svg(note)


def photographed(svg: Path, folder: Path) -> None:
    """Turn the drawing into the picture of the docs."""
    width, height = svg.read_text("utf-8").split('width="', 1)[1].split('"')[0:3:2]
    page = folder / "board.html"
    page.write_text(f'<body style="margin:0">{svg.read_text("utf-8")}</body>', "utf-8")
    subprocess.run(
        [
            program("chromium", ["chromium"], "chromium"),
            *CHROMIUM,
            f"--user-data-dir={folder / 'chromium'}",
            f"--window-size={width},{height}",
            f"--screenshot={folder / 'board.png'}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    PICTURE.parent.mkdir(exist_ok=True)
    shutil.copy(folder / "board.png", PICTURE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
