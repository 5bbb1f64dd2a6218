"""Write the document of the default settings: what `docs/asyncapi.json` holds."""

import asyncio

from flashsale.asyncapi.document import document_of
from flashsale.commands.console import write_json
from flashsale.settings import Settings

if __name__ == "__main__":
    write_json(asyncio.run(document_of(Settings())))
