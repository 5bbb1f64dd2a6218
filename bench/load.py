"""Load: as much as there is answered (wrk), and as it is meant (buyers who come when they come)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs

CLIENTS = 256
SPARE_S = 30
"""What a load generator may take beyond its time before it is given up."""
LUA = """
local first, items, one, named = 1, 1, "1", false
function init(args)
  first, items, named, one = tonumber(args[1]), tonumber(args[2]), args[3] == "named", args[5]
  wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
  path = args[4]
end
function request()
  first = first + 1
  local item = items == 1 and one or (first % items) + 1
  local body = '{"userId":' .. first .. ',"productId":"' .. item .. '"'
  if named then body = body .. ',"purchaseId":"n' .. first .. '"' end
  return wrk.format(nil, path, nil, body .. '}')
end
function done(summary)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d}\\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@attrs.frozen
class Saturated:
    """What came of asking as fast as answers come."""

    requests: int
    refused: int
    """Answers other than 200."""
    seconds: float

    @property
    def rate(self) -> float:
        """Say how many were answered in a second."""
        return self.requests / self.seconds

    @property
    def accepted(self) -> int:
        """Say how many were answered 200."""
        return self.requests - self.refused


def saturate(
    url: str,
    seconds: float,
    *,
    first: int,
    items: int = 1,
    item: str = "1",
    named: bool = False,
    path: str = "/purchase/buy",
    clients: int = CLIENTS,
) -> Saturated:
    """Ask on so many connections for so long; each buyer is another, counted from `first`.

    They want `item`, or each another of so many `items`. `named`: each brings a purchase id.
    Raises RuntimeError where anything stayed unanswered.
    """
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is missing: apt-get install wrk")
    seconds = max(1, round(seconds))  # wrk knows no smaller part of time.
    with tempfile.TemporaryDirectory(prefix="flashsale-bench-") as folder:
        script = Path(folder) / "buy.lua"
        script.write_text(LUA)
        words = [program, "-t1", f"-c{clients}", f"-d{seconds}s", "-s", str(script), url, "--"]
        words += [str(first), str(items), "named" if named else "unnamed", path, item]
        said = _said(words, seconds)
    [line] = re.findall(r"^\{.*\}$", said, re.MULTILINE)
    found = json.loads(line)
    if found["broken"]:
        raise RuntimeError(f"{found['broken']} requests were not answered: {said}")
    return Saturated(found["requests"], found["refused"], found["seconds"])


def come(
    url: str, *, rate: float, buyers: int, first: int, clients: int = CLIENTS
) -> dict[str, Any]:
    """Let buyers come at their times, whether or not others were answered (`bench.open_model`)."""
    words = [sys.executable, "-m", "bench.open_model", url]
    words += [f"--rate={rate}", f"--buyers={buyers}", f"--first={first}", f"--clients={clients}"]
    found: dict[str, Any] = json.loads(_said(words, buyers / rate))
    return found


def _said(words: list[str], seconds: float) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=seconds + SPARE_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed: {done.stderr[-2000:]}")
    return done.stdout
