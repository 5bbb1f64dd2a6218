package ch.luimode.flashsale;

import io.apicurio.registry.serde.Legacy4ByteIdHandler;
import io.apicurio.registry.serde.SerdeConfig;
import io.apicurio.registry.serde.avro.AvroKafkaSerializer;
import java.io.File;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Puts purchase requests on a topic as a foreign service does.
 *
 * <p>Arguments: bootstrap servers, registry URL (Apicurio's own API), topic, how many of each kind,
 * then the schema files. Every schema is written in both framings; the purchase id, which is the
 * message's key, names framing, record and number: {@code registry.PurchaseRequest.0}.
 */
public final class ForeignProducer {
  private static final String[] SOURCES = {"WEB", "MOBILE", "API"};

  private ForeignProducer() {}

  public static void main(String[] arguments) throws Exception {
    String bootstrap = arguments[0];
    String registry = arguments[1];
    String topic = arguments[2];
    int count = Integer.parseInt(arguments[3]);

    Map<String, Object> serializing = new HashMap<>();
    serializing.put(SerdeConfig.REGISTRY_URL, registry);
    serializing.put(SerdeConfig.AUTO_REGISTER_ARTIFACT, true);
    serializing.put(SerdeConfig.ENABLE_HEADERS, false);
    serializing.put(SerdeConfig.ENABLE_CONFLUENT_ID_HANDLER, true);
    serializing.put(SerdeConfig.ID_HANDLER, Legacy4ByteIdHandler.class.getName());
    serializing.put(SerdeConfig.USE_ID, "contentId");

    Map<String, Object> producing = new HashMap<>();
    producing.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
    producing.put(ProducerConfig.ACKS_CONFIG, "all");

    List<Future<RecordMetadata>> sent = new ArrayList<>();
    try (KafkaProducer<String, byte[]> producer =
        new KafkaProducer<>(producing, new StringSerializer(), new ByteArraySerializer())) {
      for (int file = 4; file < arguments.length; file++) {
        Schema schema = new Schema.Parser().parse(new File(arguments[file]));
        // One serializer a schema: its default subject is the topic's, which keeps one schema.
        try (AvroKafkaSerializer<GenericRecord> serializer = new AvroKafkaSerializer<>()) {
          serializing.put(SerdeConfig.EXPLICIT_ARTIFACT_ID, schema.getFullName());
          serializer.configure(serializing, false);
          for (int number = 0; number < count; number++) {
            GenericRecord framed = request(schema, "registry", number);
            sent.add(send(producer, topic, framed, serializer.serialize(topic, framed)));
            GenericRecord single = request(schema, "single", number);
            sent.add(send(producer, topic, single, singleObject(schema, single)));
          }
        }
      }
      for (Future<RecordMetadata> one : sent) {
        one.get();
      }
    }
    System.out.println(sent.size());
  }

  private static GenericRecord request(Schema schema, String framing, int number) {
    GenericRecord record = new GenericData.Record(schema);
    if (schema.getField("eventId") != null) {
      record.put("eventId", "black-friday");
    }
    record.put("purchaseId", framing + "." + schema.getName() + "." + number);
    record.put("userId", "user-" + number);
    record.put("itemId", "1");
    record.put("quantity", number + 1);
    record.put("requestedAt", 1_764_000_000_000L + number);
    Schema source = schema.getField("source").schema();
    record.put("source", new GenericData.EnumSymbol(source, SOURCES[number % SOURCES.length]));
    return record;
  }

  private static byte[] singleObject(Schema schema, GenericRecord record) throws Exception {
    ByteBuffer encoded = new BinaryMessageEncoder<GenericRecord>(new GenericData(), schema).encode(record);
    byte[] bytes = new byte[encoded.remaining()];
    encoded.get(bytes);
    return bytes;
  }

  private static Future<RecordMetadata> send(
      KafkaProducer<String, byte[]> producer, String topic, GenericRecord record, byte[] body) {
    return producer.send(new ProducerRecord<>(topic, record.get("purchaseId").toString(), body));
  }
}
