"""Prometheus, which reads processes by the rules of deploy/prometheus."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.servers import launch
from tests.servers.launch import HOST

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


class Prometheus(launch.Server):
    """A Prometheus; `url` is where its API answers."""

    def query_range(self, query: str, begin: float, end: float, step_s: float) -> list[Any]:
        """Ask for the series of a query over time."""
        asked = urllib.parse.urlencode({"query": query, "start": begin, "end": end, "step": step_s})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{asked}", timeout=30) as said:
            series: list[Any] = json.load(said)["data"]["result"]
            return series

    def alerts(self) -> list[Any]:
        """List the alerts that wait or fire."""
        with urllib.request.urlopen(f"{self.url}/api/v1/alerts", timeout=10) as said:
            found: list[Any] = json.load(said)["data"]["alerts"]
            return found


@contextlib.contextmanager
def running_prometheus(
    targets: Mapping[str, Sequence[str]], *, every_s: int = 1
) -> Iterator[Prometheus]:
    """Have one that reads `host:port` by job: the repository's own file, but for where and when."""
    binary = launch.program("prometheus", ["prometheus"], "prometheus")
    port, folder = launch.free_port(), launch.private_folder("prometheus")
    read = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    read["global"] |= {f"{what}_interval": f"{every_s}s" for what in ("scrape", "evaluation")}
    read["global"]["scrape_timeout"] = f"{every_s}s"
    read["rule_files"] = [str(FOLDER / name) for name in read["rule_files"]]
    for one in read["scrape_configs"]:
        del one["dns_sd_configs"]
        one["static_configs"] = [{"targets": list(targets[one["job_name"]])}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(read), "utf-8")
    runner = launch.Daemon(
        [
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=warn",
        ],
        ready=lambda: launch.answers(port, b"GET /-/ready HTTP/1.0\r\n\r\n", b"HTTP/1.0 200"),
        folder=folder,
    )
    server = Prometheus(
        kind="prometheus", url=f"http://{HOST}:{port}", origin=binary, runner=runner
    )
    runner.start()
    try:
        yield server
    finally:
        runner.stop()
