output "settings" {
  description = "What API and worker are to be set to; no secret is among it."
  value = merge(module.names.settings, {
    FLASHSALE_BUS_URL                 = "kafka://${trimprefix(data.confluent_kafka_cluster.this.bootstrap_endpoint, "SASL_SSL://")}"
    FLASHSALE_KAFKA_SECURITY_PROTOCOL = "SASL_SSL"
    FLASHSALE_KAFKA_SASL_MECHANISM    = "PLAIN"
    FLASHSALE_PARTITIONS              = tostring(var.partitions)
    FLASHSALE_SCHEMA_REGISTRY_URL     = data.confluent_schema_registry_cluster.this.rest_endpoint
  })
  depends_on = [confluent_kafka_topic.all]
}

output "bootstrap_servers" {
  description = "The brokers alone, as KAFKA_BOOTSTRAP_SERVERS in the overlay's settings names them."
  value       = trimprefix(data.confluent_kafka_cluster.this.bootstrap_endpoint, "SASL_SSL://")
}

output "secrets" {
  description = "The same for each process: logins of broker and registry. Put them where its Secret comes from."
  sensitive   = true
  value = {
    for who, role in { "operator" : "writer", "api" : "reader", "worker" : "reader" } : who => {
      FLASHSALE_KAFKA_USERNAME       = confluent_api_key.all[who].id
      FLASHSALE_KAFKA_PASSWORD       = confluent_api_key.all[who].secret
      FLASHSALE_SCHEMA_REGISTRY_AUTH = "${confluent_api_key.schemas[role].id}:${confluent_api_key.schemas[role].secret}"
    }
  }
}

output "keda" {
  description = "What the Secret flashsale-keda holds (deploy/kubernetes/components/kafka)."
  sensitive   = true
  value = {
    sasl     = "plaintext"
    tls      = "enable"
    username = confluent_api_key.all["keda"].id
    password = confluent_api_key.all["keda"].secret
  }
}
