"""The closed sets of words that settings choose from."""

from enum import StrEnum


class Durability(StrEnum):
    """When a buyer is told ACCEPTED."""

    CONFIRMED = "confirmed"
    JOURNALED = "journaled"


class JournalLoss(StrEnum):
    """Whether a journal may be trusted that a crash of the gate's server could shorten."""

    REFUSE = "refuse"
    ACCEPT = "i-accept-loss"


class WireFormat(StrEnum):
    """In what form messages are written; every form is read."""

    AVRO = "avro"
    JSON = "json"


class TracesTo(StrEnum):
    """Where spans go."""

    OFF = "off"
    OTLP = "otlp"


class LogLevel(StrEnum):
    """From which weight on a log line is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SecurityProtocol(StrEnum):
    """How Kafka's brokers are talked to."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class SaslMechanism(StrEnum):
    """How Kafka's brokers are told who we are."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
