"""`scripts/install-servers` for somebody who may not install anything."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "install-servers"
NEEDED = ("bash", "id", "dirname", "apt-get", "dpkg-query", "setpriv")
"""What the script itself calls; everything else is hidden from it, as on a bare machine."""


def _as_nobody(command: Path, tools: Path) -> subprocess.CompletedProcess[str]:
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run(
        [*(drop if os.getuid() == 0 else []), "bash", str(command)],
        env={"PATH": str(tools), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may read; pytest's own are private."""
    with TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_without_root_it_installs_nothing_and_names_the_one_command(folder: Path) -> None:
    """A person who may not install reads what is missing, and the one line that mends it."""
    tools, scripts = folder / "tools", folder / "scripts"
    tools.mkdir()
    for name in NEEDED:
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found is not None:
            (tools / name).symlink_to(found)
    scripts.mkdir()
    shutil.copy(SCRIPT, scripts)

    told = _as_nobody(scripts / SCRIPT.name, tools)

    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    missing, skipped, command = told.stdout.splitlines()
    assert missing.startswith("These Debian packages are missing: ")
    assert {"default-jdk-headless", "maven", "openssl", "redis-server"} <= set(missing.split())
    assert skipped == "Tests that need them are skipped. To run them all:"
    assert command.strip() == f"sudo {scripts}/install-servers && make test"
