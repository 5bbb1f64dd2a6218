output "settings" {
  description = "What API and worker are to be set to; no secret is among it."
  value = merge(
    {
      FLASHSALE_BUS_URL                 = "kafka://${join(",", var.bootstrap_servers)}"
      FLASHSALE_KAFKA_SECURITY_PROTOCOL = var.security_protocol
      FLASHSALE_PARTITIONS              = tostring(var.partitions)
      FLASHSALE_REQUESTS_TOPIC          = kafka_topic.all[module.names.channels.requests].name
      FLASHSALE_ACCEPTED_TOPIC          = kafka_topic.all[module.names.channels.accepted].name
      FLASHSALE_ORDERS_TOPIC            = kafka_topic.all[module.names.channels.orders].name
      FLASHSALE_DEAD_LETTER_TOPIC       = kafka_topic.all[module.names.channels.dead_letters].name
      FLASHSALE_CONSUMER_GROUP          = module.names.groups.requests
      FLASHSALE_ACCEPTED_GROUP          = module.names.groups.accepted
    },
    startswith(var.security_protocol, "SASL_") ? { FLASHSALE_KAFKA_SASL_MECHANISM = var.sasl_mechanism } : {},
    var.schema_registry_url == null ? {} : { FLASHSALE_SCHEMA_REGISTRY_URL = var.schema_registry_url },
  )
}

output "bootstrap_servers" {
  description = "The brokers alone, as KAFKA_BOOTSTRAP_SERVERS in the overlay's settings names them."
  value       = join(",", var.bootstrap_servers)
}
