"""CloudEvents' own SDK reads the metadata of our messages, as each broker's binding writes it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.amqp import AMQPMessage
from cloudevents.core.bindings.amqp import from_binary_event as from_amqp
from cloudevents.core.bindings.amqp import to_binary_event as to_amqp
from cloudevents.core.bindings.kafka import KafkaMessage
from cloudevents.core.bindings.kafka import from_binary_event as from_kafka
from cloudevents.core.bindings.kafka import to_binary_event as to_kafka
from cloudevents.core.exceptions import CloudEventValidationError
from hypothesis import given, settings

from flashsale_avro import AvroCodec, WireFormat
from flashsale_core.events import OrderEvent
from flashsale_core.model import PurchaseRequest
from flashsale_core.ports import Encoded
from flashsale_core.testing.strategies import order_events, purchase_requests
from flashsale_kafka.wire import record_headers
from flashsale_rabbitmq.wire import PURCHASE_HEADER, fact_headers

CODECS = {wire_format: AvroCodec(wire_format=wire_format) for wire_format in WireFormat}
SOURCE = "/flashsale"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def over_kafka(encoded: Encoded, purchase_id: str) -> BaseCloudEvent:
    """Read what the Kafka adapter writes."""
    headers = dict(record_headers(encoded))
    return from_kafka(KafkaMessage(headers=headers, key=purchase_id, value=encoded.body))


def over_rabbitmq(encoded: Encoded, purchase_id: str) -> BaseCloudEvent:
    """Read what the RabbitMQ adapter writes."""
    return from_amqp(
        AMQPMessage(
            properties={"content-type": encoded.content_type},
            application_properties=fact_headers(encoded, purchase_id),
            application_data=encoded.body,
        )
    )


def told(event: BaseCloudEvent) -> dict[str, Any]:
    """List what an event says of itself; Kafka's key is an extension of the SDK's making."""
    attributes = dict(event.get_attributes())
    attributes.pop("partitionkey", None)
    return attributes


@settings(deadline=None)
@given(order_events())
def test_a_follow_up_event_is_a_cloud_event_on_both_brokers(event: OrderEvent) -> None:
    """Whichever broker and form: the same attributes, none missing, none that the SDK refuses."""
    for wire_format, codec in CODECS.items():
        encoded = codec.encode(event)
        over = [read(encoded, event.purchase_id) for read in (over_kafka, over_rabbitmq)]
        assert [told(one) for one in over] == 2 * [
            {
                "specversion": "1.0",
                "id": event.occurrence_id,
                "type": f"ch.luimode.flashsale.{event.type}",
                "source": SOURCE,
                "subject": event.purchase_id,
                "time": EPOCH + timedelta(milliseconds=event.occurred_at_ms),
                "datacontenttype": f"application/{wire_format}",
            }
        ]


@settings(deadline=None)
@given(purchase_requests())
def test_a_request_that_our_codec_writes_is_a_cloud_event_too(request: PurchaseRequest) -> None:
    """The outside door reads none of it; other readers of the channel may."""
    if request.payment_token is None:
        encoded = CODECS[WireFormat.AVRO].encode(request)
        for read in (over_kafka, over_rabbitmq):
            assert told(read(encoded, request.purchase_id))["id"] == request.purchase_id


@settings(deadline=None)
@given(order_events())
def test_the_sdk_writes_the_headers_that_we_write(event: OrderEvent) -> None:
    """Name by name; only what is no attribute of CloudEvents is ours alone."""
    encoded = CODECS[WireFormat.JSON].encode(event)
    ours = dict(record_headers(encoded))
    theirs = to_kafka(over_kafka(encoded, event.purchase_id)).headers
    assert set(theirs) - set(ours) == {"ce_partitionkey"}
    assert set(ours) - set(theirs) <= {"traceparent"}
    shared = set(ours) & set(theirs) - {"ce_time"}
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
    headers = fact_headers(encoded, event.purchase_id)
    written = to_amqp(over_rabbitmq(encoded, event.purchase_id)).application_properties
    assert set(written) <= set(headers)
    assert set(headers) - set(written) <= {"traceparent", PURCHASE_HEADER}


def test_the_sdk_refuses_metadata_under_another_broker_s_names() -> None:
    """Were RabbitMQ's headers named as Kafka's, no reader by the book would find the event."""
    encoded = Encoded(body=b"{}", content_type="application/json", headers=(("ce_id", b"1"),))
    message = AMQPMessage(
        properties={},
        application_properties={name: value.decode() for name, value in encoded.headers},
        application_data=encoded.body,
    )
    with pytest.raises(CloudEventValidationError):
        from_amqp(message)
