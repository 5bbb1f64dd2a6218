"""Build the Java producer once and run it: a service that shares no code with the engine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from flashsale_avro import SchemaName
from tests.servers import Kafka, Registry, launch, maven

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUILD = ROOT / "build" / "foreign-producer"
SOURCES = (HERE / "pom.xml", HERE / "src/main/java/ch/luimode/flashsale/ForeignProducer.java")
BUILD_S_MAX = 600
"""The first build fetches the libraries; later ones take seconds, and most take none."""
RUN_S_MAX = 60


def produce(
    kafka: Kafka,
    registry: Registry,
    topic: str,
    count: int,
    *,
    schemas: tuple[SchemaName, ...] = (
        SchemaName.PURCHASE_REQUEST,
        SchemaName.AVRO_PURCHASE_REQUEST,
    ),
) -> int:
    """Put `count` requests of each schema on a topic in each of both framings; tell how many.

    The purchase ids are `FRAMING.RECORD.NUMBER`, as in `registry.PurchaseRequest.0`.
    """
    server = urlsplit(registry.url)
    done = _run(
        [
            maven.java("java"),
            "-cp",
            os.pathsep.join([str(_built() / "classes"), f"{_built() / 'libs'}/*"]),
            "ch.luimode.flashsale.ForeignProducer",
            kafka.plaintext_bootstrap,
            f"http://{server.netloc}/apis/registry/v2",
            topic,
            str(count),
            *[str(ROOT / "schemas" / f"{name}.avsc") for name in schemas],
        ],
        RUN_S_MAX,
    )
    return int(done.splitlines()[-1])


def _built() -> Path:
    """Compile what is not compiled yet; processes of one test run wait for one another."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
    stamp = BUILD / "sources.sha256"
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != digest:
            launch.program("java compiler", ["javac"], "openjdk-17-jdk-headless")
            binary = launch.program("maven", ["mvn"], "maven")
            _run(
                [binary, "-q", "-B", "-f", str(SOURCES[0]), f"-Dproducer.build={BUILD}", "compile"],
                BUILD_S_MAX,
            )
            stamp.write_text(digest)
    return BUILD


def _run(command: list[str], seconds: int) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, (done.stdout + done.stderr)[-launch.LOG_TAIL_CHARACTERS :]
    return done.stdout
