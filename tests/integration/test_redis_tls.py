"""The gate over TLS, by its URL alone, on a real Redis with a throwaway authority."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flashsale_core.errors import Unavailable, Why
from flashsale_core.outcomes import Reserved
from flashsale_core.testing.stock_gate import claim, open_sale
from flashsale_redis import open_redis_gate
from tests.servers import launch
from tests.servers.authority import Authority

START_S_MAX = 20


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """Start a Redis that speaks TLS alone; give its URL and what vouches for it."""
    authority, port = Authority(tmp_path), launch.free_port()
    pem = str(authority.server_pem())
    redis = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [
            launch.program("redis", ["redis-server"], "redis-server"),
            *("--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", ""),
            *("--tls-cert-file", pem, "--tls-key-file", pem, "--tls-auth-clients", "no"),
            *("--tls-ca-cert-file", str(authority.certificate), "--dir", str(tmp_path)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_S_MAX):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"rediss://127.0.0.1:{port}/0", authority.certificate
    finally:
        redis.terminate()
        redis.wait(START_S_MAX)


async def test_a_gate_is_reached_over_tls_by_its_url(tls: tuple[str, Path]) -> None:
    """The authority is named in the URL, and the server's certificate is checked against it."""
    url, authority = tls
    async with open_redis_gate(f"{url}?ssl_ca_certs={authority}", deadline_s=5.0) as gate:
        await gate.check()
        sale = await open_sale(gate, units=1)
        [answer] = await sale.reserve(claim("p1"))
        assert isinstance(answer, Reserved)


async def test_a_server_that_nobody_vouches_for_is_not_trusted(tls: tuple[str, Path]) -> None:
    """Nothing is sent to it."""
    url, _ = tls
    async with open_redis_gate(url, deadline_s=5.0) as gate:
        with pytest.raises(Unavailable) as refused:
            await gate.check()
    assert refused.value.why is Why.GATE_AWAY
    assert "certificate" in refused.value.detail.lower()
    assert not refused.value.may_have_happened
