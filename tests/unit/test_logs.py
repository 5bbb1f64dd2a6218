"""What is written to the log, what is not, and what never may be."""

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from flashsale.logs import Form, set_up_logging
from flashsale.observing import FAULT_LINES_MAX, WatchingObserver
from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.model import Door, OrderStatus, PurchaseId, SaleId
from flashsale_core.ports import Alarm, Standing
from flashsale_prometheus import Metrics, PrometheusObserver

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PASSWORD = 'hun"ter2-ünd-more'


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    """Give the process back its loggers; they are the one thing here that is global."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    """Take the lines."""
    return io.StringIO()


@pytest.fixture
def observer(stream: io.StringIO) -> WatchingObserver:
    """Watch with JSON lines into the stream."""
    set_up_logging("info", form=Form.JSON, secrets=[PASSWORD], stream=stream)
    return WatchingObserver(PrometheusObserver(Metrics(CollectorRegistry())))


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Read what was written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_accepted_and_sold_out_write_no_line_but_one_summary(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """A crowd of a million must not become a million lines."""
    for n in range(3):
        observer.answered(Door.HTTP, "accepted", PurchaseId(f"p{n}"))
    for _ in range(97):
        observer.answered(Door.HTTP, "sold-out", None)
    observer.answered(Door.HTTP, "REGION_BLOCKED", None)
    assert lines(stream) == []
    observer.summarise()
    [summary] = lines(stream)
    assert summary["event"] == "answers"
    assert summary["http"] == {"accepted": 3, "sold-out": 97, "REGION_BLOCKED": 1}
    assert summary["level"] == "info"
    assert summary["time"].endswith("Z")


def test_a_second_without_answers_writes_no_summary(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """A sale at rest is quiet, and no answer is summed up twice."""
    observer.answered(Door.HTTP, "accepted", None)
    observer.summarise()
    observer.summarise()
    assert len(lines(stream)) == 1


@pytest.mark.parametrize(
    ("outcome", "level"),
    [("invalid", "info"), ("key-reused", "info"), ("unavailable", "warning")],
)
def test_a_refusal_by_fault_writes_one_line_with_the_purchase(
    observer: WatchingObserver, stream: io.StringIO, outcome: str, level: str
) -> None:
    """Whoever looks for a purchase that failed finds it by its id."""
    observer.answered(Door.HTTP, outcome, PurchaseId("p-1"))
    [line] = lines(stream)
    assert (line["outcome"], line["purchase_id"], line["door"]) == (outcome, "p-1", "http")
    assert line["level"] == level


def test_a_storm_of_faults_is_cut_off_and_counted(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """An outage under load must not fill the disk; what was not written is told."""
    for _ in range(FAULT_LINES_MAX + 5):
        observer.answered(Door.HTTP, "unavailable", None)
    observer.summarise()
    written = lines(stream)
    assert len(written) == FAULT_LINES_MAX + 1
    assert written[-1]["unwritten"] == 5
    observer.answered(Door.HTTP, "unavailable", None)
    assert len(lines(stream)) == FAULT_LINES_MAX + 2


def test_an_orders_end_writes_one_line_with_its_trace(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """Each terminal state can be followed back to the request that began it."""
    observer.recorded([ended("p", "SOLD_OUT", TRACE)])
    [line] = lines(stream)
    assert line["event"] == "purchase recorded"
    assert (line["purchase_id"], line["sale_id"]) == ("p", "1.1")
    assert (line["status"], line["reason"]) == ("REJECTED", "SOLD_OUT")
    assert line["traceparent"] == TRACE


def ended(purchase_id: str, reason: str | None = None, trace: str | None = None) -> Standing:
    """Make a row that a batch just wrote."""
    return Standing(
        sale_id=SaleId("1.1"),
        purchase_id=PurchaseId(purchase_id),
        status=OrderStatus.CONFIRMED if reason is None else OrderStatus.REJECTED,
        reason=reason,
        is_new=True,
        traceparent=trace,
    )


class CountingStream(io.StringIO):
    """Counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        """Count."""
        self.writes += 1
        return super().write(text)


def test_a_batch_of_ends_is_one_write_and_each_line_is_as_if_written_alone() -> None:
    """The worker ends tens of thousands a second; what reads the log sees no difference."""
    stream = CountingStream()
    set_up_logging("info", form=Form.JSON, secrets=["geheim", PASSWORD], stream=stream)
    observer = WatchingObserver(PrometheusObserver(Metrics(CollectorRegistry())))
    ends = [ended("p-1"), ended('"ü\\n\x01', "SOLD_OUT"), ended("geheim-3", PASSWORD, TRACE)]
    observer.recorded(ends)
    assert stream.writes == 1
    for one in ends:
        structlog.get_logger("flashsale").info(
            "purchase recorded",
            purchase_id=one.purchase_id,
            sale_id=one.sale_id,
            status=one.status.value,
            reason=one.reason,
            traceparent=one.traceparent,
        )
    written = [
        re.sub('"time": "[0-9T:.-]{26}Z"', "", line) for line in stream.getvalue().split("\n")
    ]
    assert written[:3] == written[3:6]
    assert "geheim" not in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "form", "count"), [("warning", Form.JSON, 0), ("info", Form.CONSOLE, 2)]
)
def test_ends_are_written_in_the_form_and_from_the_level_that_was_set(
    stream: io.StringIO, level: str, form: Form, count: int
) -> None:
    """Who wants warnings alone gets no line an order; who reads on a terminal reads them there."""
    set_up_logging(level, form=form, stream=stream)
    observer = WatchingObserver(PrometheusObserver(Metrics(CollectorRegistry())))
    observer.recorded([ended("p-1"), ended("p-2")])
    assert len(stream.getvalue().splitlines()) == count


def test_a_parked_message_writes_one_line_with_where_it_came_from(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """The origin finds the bytes, the trace finds the sender."""
    message = Message(
        channel=Channel.REQUESTS,
        body=b"\x00",
        headers=(("traceparent", TRACE.encode()),),
        origin="requests:0:7",
    )
    observer.parked(
        ParkedMessage(
            message=message, status=ParkedStatus.DEAD, reason="bad-framing", detail="1 byte"
        )
    )
    [line] = lines(stream)
    assert (line["origin"], line["reason"], line["traceparent"]) == (
        "requests:0:7",
        "bad-framing",
        TRACE,
    )


def test_alarms_and_republished_purchases_write_a_line(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """What a person must look at is an error; what healed itself is not."""
    observer.alarm(Alarm.GATE_DRIFT, sale_id="1.1")
    observer.republished(2)
    alarm, again = lines(stream)
    assert (alarm["alarm"], alarm["sale_id"], alarm["level"]) == ("gate-drift", "1.1", "error")
    assert (again["count"], again["level"]) == (2, "info")


def test_what_is_bound_to_the_request_is_on_its_lines(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """A door binds the trace once, and each line of that request carries it."""
    with structlog.contextvars.bound_contextvars(traceparent=TRACE):
        observer.answered(Door.HTTP, "invalid", None)
    assert lines(stream)[0]["traceparent"] == TRACE


def test_the_librarys_loggers_end_in_the_same_lines(
    observer: WatchingObserver, stream: io.StringIO
) -> None:
    """One stream, one form: whoever reads the log need not know who wrote."""
    logging.getLogger("aiokafka.consumer").warning("heartbeat %s", "failed")
    logging.getLogger("aiokafka.consumer").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old", UserWarning, stacklevel=1)
    observer.republished(1)
    first, second, third = lines(stream)
    assert first["event"] == "heartbeat failed"
    assert first["logger"] == "aiokafka.consumer"
    assert "UserWarning" in second["event"]
    assert third["event"] == "purchases published again"


def test_a_level_leaves_the_lighter_lines_out(stream: io.StringIO) -> None:
    """`FLASHSALE_LOG_LEVEL=warning` keeps a busy worker's orders out of the log."""
    set_up_logging("warning", form=Form.JSON, stream=stream)
    log = structlog.get_logger()
    log.info("light")
    logging.getLogger("x").info("light")
    log.warning("heavy")
    assert [line["event"] for line in lines(stream)] == ["heavy"]


@pytest.mark.usefixtures("observer")
def test_secrets_never_show(stream: io.StringIO) -> None:
    """Not under their names, not in URLs, and not in a driver's exception."""
    log = structlog.get_logger()
    log.info("by name", kafka_password="swordfish", Authorization="Bearer x", paymentToken="t")
    log.info("in a url", url="redis://admin:swordfish@h:1/0")
    logging.getLogger("driver").error("cannot reach amqp://u:swordfish@h with %s", PASSWORD)
    try:
        int(f"refused {PASSWORD}")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "swordfish" not in text
    assert PASSWORD not in text
    assert json.dumps(PASSWORD, ensure_ascii=False)[1:-1] not in text
    assert "ValueError" in text
    assert "redis://admin:***@h:1/0" in text


def test_a_closed_pipe_does_not_fail_a_purchase() -> None:
    """An observer never raises, whoever stopped reading the log."""
    stream = io.StringIO()
    set_up_logging("info", form=Form.JSON, stream=stream)
    observer = WatchingObserver(PrometheusObserver(Metrics(CollectorRegistry())))
    stream.close()
    observer.alarm(Alarm.GATE_DRIFT, sale_id="1.1")
    logging.getLogger("x").error("nobody hears")


def test_logs_go_to_standard_error_and_leave_the_output_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A command's answer on standard output stays what a script may read."""
    set_up_logging("info")
    assert not sys.stderr.isatty()
    structlog.get_logger().info("here")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "here"


def test_a_person_at_a_terminal_reads_plain_lines(stream: io.StringIO) -> None:
    """The console form is for eyes."""
    set_up_logging("info", form=Form.CONSOLE, stream=stream)
    structlog.get_logger().info("sale opened", sale_id="1.1")
    assert "sale opened" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("name", ["aiormq.connection", "sqlalchemy.engine.Engine", "aiokafka"])
def test_libraries_never_write_out_what_they_carry(name: str) -> None:
    """Below INFO they log frames and rows, in which payment tokens stand, at any level of ours."""
    set_up_logging("debug", form=Form.JSON)
    assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
