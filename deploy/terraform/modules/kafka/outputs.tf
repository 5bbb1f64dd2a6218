output "settings" {
  description = "What API and worker are to be set to; no secret is among it."
  value = merge(
    module.names.settings,
    {
      FLASHSALE_BUS_URL                 = "kafka://${join(",", var.bootstrap_servers)}"
      FLASHSALE_KAFKA_SECURITY_PROTOCOL = var.security_protocol
      FLASHSALE_PARTITIONS              = tostring(var.partitions)
    },
    startswith(var.security_protocol, "SASL_") ? { FLASHSALE_KAFKA_SASL_MECHANISM = var.sasl_mechanism } : {},
    var.schema_registry_url == null ? {} : { FLASHSALE_SCHEMA_REGISTRY_URL = var.schema_registry_url },
  )
  depends_on = [kafka_topic.all]
}

output "bootstrap_servers" {
  description = "The brokers alone, as KAFKA_BOOTSTRAP_SERVERS in the overlay's settings names them."
  value       = join(",", var.bootstrap_servers)
}
