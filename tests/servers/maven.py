"""Fetch the Java servers from Maven's repository, once, into `.servers/`.

`FLASHSALE_SERVERS_HOME` names another folder. Which repository that is, is Maven's own
configuration.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.servers import launch

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.5"
REGISTRY_VERSION = "2.6.13.Final"
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
FETCH_S_MAX = 900
JAVA_PACKAGE = "openjdk-17-jre-headless"

KAFKA_ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-1.2-api", LOG4J_VERSION),
)
REGISTRY_ARTIFACT = f"io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all"


def home() -> Path:
    """Return the folder that keeps the downloaded servers."""
    named = os.environ.get("FLASHSALE_SERVERS_HOME")
    return Path(named) if named else Path(__file__).resolve().parents[2] / ".servers"


def java(kind: str) -> str:
    """Return the Java that runs the servers."""
    return launch.program(kind, ["java"], JAVA_PACKAGE)


def kafka_libraries() -> Path:
    """Return the folder of Kafka's jars, fetched if need be."""
    return _once("kafka", f"kafka-{KAFKA_VERSION}", _fetch_kafka)


def registry_jar() -> Path:
    """Return the registry's runnable jar, fetched if need be."""
    folder = _once("registry", f"apicurio-registry-{REGISTRY_VERSION}", _fetch_registry)
    return folder / f"apicurio-registry-app-{REGISTRY_VERSION}-runner.jar"


def _once(kind: str, name: str, fetch: Callable[[Path], None]) -> Path:
    """Fetch into a folder beside it and rename: whoever sees the folder sees all of it."""
    target = home() / name
    if target.is_dir():
        return target
    if shutil.which("mvn") is None:
        raise launch.ServerMissing(
            kind, f"{target} is not there and Maven is not installed", launch.install("maven")
        )
    home().mkdir(parents=True, exist_ok=True)
    with (home() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=home(), prefix=f"{name}-") as temporary:
                complete = Path(temporary) / "complete"
                complete.mkdir()
                fetch(complete)
                complete.rename(target)
    return target


def _fetch_kafka(target: Path) -> None:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in KAFKA_ARTIFACTS
    )
    pom = target.parent / "pom.xml"
    pom.write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>flashsale</groupId>"
        "<artifactId>kafka-server</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
    _maven(
        "kafka",
        target.parent,
        "-f",
        str(pom),
        f"{DEPENDENCY_PLUGIN}:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={target}",
    )


def _fetch_registry(target: Path) -> None:
    # Maven unpacks it too: Debian 12's Python does not know tarfile's safe filter yet.
    _maven(
        "registry",
        target.parent,
        f"{DEPENDENCY_PLUGIN}:unpack",
        f"-Dartifact={REGISTRY_ARTIFACT}",
        f"-DoutputDirectory={target}",
    )


def _maven(kind: str, where: Path, *arguments: str) -> None:
    """Run Maven in a temporary folder: it leaves its marks where it runs."""
    binary = launch.program(kind, ["mvn"], "maven")
    done = subprocess.run(
        [binary, "-q", "-B", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=FETCH_S_MAX,
        cwd=where,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-launch.LOG_TAIL_CHARACTERS :]
        raise launch.ServerMissing(kind, f"Maven failed: {said}", "python -m tests.servers fetch")
