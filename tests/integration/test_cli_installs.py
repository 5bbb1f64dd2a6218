"""The command line where an extra is missing, each in an interpreter that has imported nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flashsale.cli import EXIT_FAILED
from flashsale.commands.app import EXTRA_OF

BROKERS = {"kafka": "kafka", "amqp": "rabbitmq"}
DEAD_PORT = 1
"""Nobody listens on the first port of loopback."""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder, without anybody's settings."""
    for variable in list(os.environ):
        if variable.startswith("FLASHSALE_") and not variable.startswith("FLASHSALE_TEST_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def in_fresh_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has imported nothing yet."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


def test_without_its_extra_the_command_line_names_it() -> None:
    """A base install gives one sentence, not a traceback."""
    done = in_fresh_python(
        "import sys; sys.modules['cyclopts'] = None; from flashsale.cli import main; main([])"
    )
    assert done.returncode == EXIT_FAILED
    assert "pip install 'flashsale[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("absent", "bus"),
    [
        ("litestar granian aio_pika aiormq aiosqlite confluent_kafka", "kafka"),
        ("aiokafka aiosqlite confluent_kafka", "amqp"),
    ],
)
def test_a_command_needs_only_the_libraries_of_what_it_works_on(absent: str, bus: str) -> None:
    """An install with `[kafka,redis,postgres,cli]` has no web stack; one for RabbitMQ no Kafka."""
    done = in_fresh_python(
        f"import os, sys\nfor name in {absent.split()!r}: sys.modules[name] = None\n"
        f"os.environ.update(FLASHSALE_BUS_URL='{bus}://127.0.0.1:{DEAD_PORT}',"
        f" FLASHSALE_GATE_URL='redis://127.0.0.1:{DEAD_PORT}',"
        f" FLASHSALE_DATABASE_URL='postgresql+asyncpg://127.0.0.1:{DEAD_PORT}/x')\n"
        "from flashsale.cli import main\nmain(['doctor'])"
    )
    assert done.stderr == ""
    for name in ("redis reachable", f"{BROKERS[bus]} reachable", "database reachable"):
        assert f"wrong    {name}" in done.stdout


def test_help_loads_no_driver_and_no_web_stack() -> None:
    """It answers at once, on any install."""
    heavy = [*EXTRA_OF, "prometheus_client", "dependency_injector"]
    done = in_fresh_python(
        "import sys\nfrom flashsale.commands.app import run_command\nrun_command(['--help'])\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)"
    )
    assert done.stderr.strip() == "[]"


def test_serving_without_the_web_stack_names_its_extra() -> None:
    """The worker's install is told what the API needs."""
    done = in_fresh_python(
        "import sys\nfor name in ('litestar', 'granian'): sys.modules[name] = None\n"
        "from flashsale.cli import main\nmain(['run', '--port', '18999'])"
    )
    assert done.returncode == EXIT_FAILED
    assert "pip install 'flashsale[http]'" in done.stderr
    assert "Traceback" not in done.stderr
