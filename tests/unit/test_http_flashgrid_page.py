"""`docs/flashgrid.md` says in ten lines what differs, and says it truly."""

import re
from pathlib import Path

from flashsale.http import answers, wire
from tests.unit.http_world import Shop

PAGE = Path(__file__).parents[2] / "docs" / "flashgrid.md"


async def test_the_page_has_ten_lines_and_names_what_exists() -> None:
    """Every route, field and status that it names is one of the document's."""
    text = PAGE.read_text()
    assert len(re.findall(r"^\d+\. ", text, re.MULTILINE)) == 10
    document = (await Shop().ask("GET", "/openapi.json")).json
    for method, path in re.findall(r"`(GET|POST) (/[a-z/0-9.]*)", text):
        template = re.sub(r"/1\.1", "/{saleId}", path)
        assert method.lower() in document["paths"][template], path
    for name in ("maxPerUser", "opensAt", "closesAt", "unitPriceMinor", "currency"):
        assert name in text
        assert name in wire.InitQuery.__struct_encode_fields__
    for name in answers.Accepted.__struct_encode_fields__:
        assert f"`{name}`" in text


async def test_the_calls_on_the_page_work_as_they_stand() -> None:
    """Copied from the page, not written again."""
    text = PAGE.read_text()
    init = re.search(r"`POST (/purchase/init\S+)`", text)
    body = re.search(r"`(\{[^`]+\})`", text)
    assert init is not None
    assert body is not None
    shop = Shop()
    async with shop.world.worker():
        assert (await shop.ask("POST", init[1])).status == 200
        assert (await shop.buy(body[1].encode())).status == 200
