"""The AsyncAPI document: written from the schemas, the adapters and the settings, never by hand.

python -m flashsale.asyncapi > docs/asyncapi.json
python -m flashsale.asyncapi.page > docs/events.md
"""

from flashsale.asyncapi.document import document_of

__all__ = ["document_of"]
