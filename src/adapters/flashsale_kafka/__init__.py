"""The bus on Apache Kafka, by aiokafka."""

from flashsale_kafka.bus import KafkaBus, open_kafka_bus
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.topics import ensure_topics

__all__ = ["KafkaBus", "KafkaConfig", "ensure_topics", "open_kafka_bus"]
