"""The files that deploy the engine, and the tools that read them."""

import os
import re
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from flashsale.settings import Entrypoint, Settings
from flashsale.settings_loading import load_settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("development", "production-kafka", "production-rabbitmq")
PRODUCTION = ("production-kafka", "production-rabbitmq")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = {".yaml", ".yml", ".tf", ".json", ".py", ".toml", ".md", ".sh", ""}
Manifest = dict[str, Any]


def tool(name: str) -> str:
    """Find a program that the test tools brought; it stands beside this Python."""
    found = Path(sysconfig.get_path("scripts")) / name
    assert found.exists(), f"{name} is missing: pip install --requirement requirements/dev.txt"
    return str(found)


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a checker; what it says is the test's message."""
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )


@cache
def built(overlay: str) -> str:
    """Build an overlay as `kubectl apply -k` does."""
    done = run(tool("kubectl"), "kustomize", str(KUBERNETES / "overlays" / overlay))
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def manifests(overlay: str) -> tuple[Manifest, ...]:
    """List the objects of an overlay; to be read alone, for all who ask get the same."""
    return tuple(one for one in yaml.safe_load_all(built(overlay)) if one)


def the(overlay: str, kind: str, name: str) -> Manifest:
    """Find one object."""
    [found] = [
        one for one in manifests(overlay) if one["kind"] == kind and one["metadata"]["name"] == name
    ]
    return found


def pods(overlay: str) -> dict[str, Manifest]:
    """List the pod specifications by the name of what makes them."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in manifests(overlay)
        if one["kind"] in {"Deployment", "Job"}
    }


def ours(overlay: str) -> dict[str, Manifest]:
    """List the pods of the engine itself: setup, API, worker."""
    return {name: pod for name, pod in pods(overlay).items() if name.startswith("flashsale-")}


def containers(pod: Manifest) -> list[Manifest]:
    """List all containers of a pod."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


@cache
def compose() -> Manifest:
    """Read compose.yaml."""
    found: Manifest = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def texts() -> dict[str, str]:
    """Read every file that names something of the engine: deploy/, compose.yaml, the workflows."""
    files = [
        *(one for one in DEPLOY.rglob("*") if one.is_file()),
        ROOT / "compose.yaml",
        ROOT / "scripts" / "up",
        *WORKFLOWS,
    ]
    return {
        one.relative_to(ROOT).as_posix(): one.read_text(encoding="utf-8")
        for one in files
        if one.suffix in TEXTS and "__pycache__" not in one.parts
    }


def image_sets() -> dict[str, str]:
    """Read the variables that the image itself sets."""
    last = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    [block] = re.findall(r"^ENV ((?:.*\\\n)*.*)$", last, re.MULTILINE)
    return dict(one.split("=", 1) for one in block.replace("\\\n", " ").split())


def accepted(given: dict[str, str], command: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Let the engine's own check read the settings that a container gets, as its command does."""
    for name in [name for name in os.environ if name.startswith("FLASHSALE_")]:
        monkeypatch.delenv(name)
    of_the_image = {
        name: value for name, value in image_sets().items() if name.startswith("FLASHSALE_")
    }
    for name, value in {**of_the_image, **given}.items():
        monkeypatch.setenv(name, value)
    entrypoints = {"serve": Entrypoint.SERVE, "worker": Entrypoint.WORKER}
    return load_settings(entrypoints.get(command, Entrypoint.COMMAND))
