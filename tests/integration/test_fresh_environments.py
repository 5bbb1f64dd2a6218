"""The wheel where nothing of the checkout is: each set of extras does its own work, no more."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.crowds import settled_orders
from tests.integration.engine import ROOT, ask, engine, own_names
from tests.integration.outside import Sent, sender
from tests.servers import Kafka, Postgres, RabbitMQ, Redis

# The longest of all, and of a release's concern: `make release-check` installs each extra too.
pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]
BUILD_S_MAX = 300

Fresh = Callable[[str], str]
"""Make an environment with these extras of the wheel; answer its interpreter."""


def run(*command: str) -> str:
    """Run a command that must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as it would be published."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder))
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Install with the versions that the tests run with."""
    folder = tmp_path_factory.mktemp("fresh")
    pins = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    constraints = folder / "constraints.txt"
    found = re.findall(r"^([A-Za-z0-9_.-]+==[^ ;\n]+(?: ;[^\\\n]*)?) *\\?$", pins, re.MULTILINE)
    constraints.write_text("\n".join(found), encoding="utf-8")

    def make(extras: str) -> str:
        place = folder / re.sub(r"\W+", "-", extras)
        python = str(place / "bin" / "python")
        run(sys.executable, "-m", "venv", "--without-pip", str(place))
        run(
            *(sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet"),
            *("--disable-pip-version-check", "--constraint", str(constraints)),
            f"{wheel}[{extras}]",
        )
        return python

    return make


def absent(python: str, *modules: str) -> None:
    """See that an environment does not hold what it does not need."""
    code = "import sys, importlib.util as u; print([m for m in sys.argv[1:] if u.find_spec(m)])"
    assert run(python, "-c", code, *modules).strip() == "[]"


async def test_a_worker_without_a_web_stack_makes_a_sale_and_its_orders(
    fresh: Fresh,
    tmp_path: Path,
    redis_server: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
) -> None:
    """`flashsale[kafka,redis,postgres,cli]` alone."""
    python = fresh("kafka,redis,postgres,cli")
    absent(python, "litestar", "granian", "aio_pika", "aiosqlite", "confluent_kafka")
    absent(python, "opentelemetry")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": kafka_server.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
    }
    with engine(tmp_path, settings, python=python) as ours:
        refused = ours.command("worker", FLASHSALE_TRACES="otlp")
        assert "pip install 'flashsale[otel]'" in refused.stderr
        ours.prepare()
        ours.must("sale", "create", "--item", "1", "--stock", "10")
        ours.start("worker").wait_until_ready()
        request = PurchaseRequest(
            purchase_id=PurchaseId("p1"),
            user_id=UserId("u1"),
            item_id=ItemId("1"),
            requested_at_ms=1,
        )
        async with sender(ours) as send:
            await send([Sent(b"p1", AvroCodec().encode(request).body)])
        assert await settled_orders(ours, 1) == {"CONFIRMED": 1}


async def test_flashgrids_two_calls_work_verbatim_without_a_kafka_client(
    fresh: Fresh,
    tmp_path: Path,
    redis_server: Redis,
    rabbitmq_server: RabbitMQ,
    postgres_server: Postgres,
) -> None:
    """`flashsale[http,rabbitmq,redis,postgres,cli]` alone."""
    python = fresh("http,rabbitmq,redis,postgres,cli")
    absent(python, "aiokafka", "confluent_kafka", "aiosqlite")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": rabbitmq_server.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
    }
    with engine(tmp_path, settings, python=python) as ours:
        ours.prepare()
        api, worker = ours.start("serve"), ours.start("worker")
        api.wait_until_ready()
        worker.wait_until_ready()
        assert ask("POST", f"{api.url}/purchase/init?productId=1&stock=1").status == 200
        bought = ask("POST", f"{api.url}/purchase/buy", {"userId": 101, "productId": 1})
        assert bought.status == 200
        late = ask("POST", f"{api.url}/purchase/buy", {"userId": 102, "productId": 1})
        assert late.status == 429
        assert await settled_orders(ours, 1) == {"CONFIRMED": 1}


def test_an_installed_command_line_knows_what_was_released(fresh: Fresh) -> None:
    """`flashsale[cli,contracts]` alone: releases travel in the wheel, and no server is asked."""
    python = fresh("cli,contracts")
    absent(python, "confluent_kafka", "aiokafka", "aio_pika")
    assert "compatible with every release: 1.0.0" in run(
        python, "-m", "flashsale", "schema", "check"
    )
