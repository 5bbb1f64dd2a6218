# Topics, service accounts with their keys and rights, and schema subjects of Flashsale on Confluent
# Cloud. There every topic has three replicas, of which two must confirm.

locals {
  requests     = "flashsale.purchase.requests"
  accepted     = "flashsale.purchase.accepted"
  orders       = "flashsale.orders"
  dead_letters = "flashsale.purchase.requests-dlt"

  requests_group = "flashsale-purchase-processor"
  accepted_group = "flashsale-purchase-accepted"

  retention_ms = var.retention_days * 24 * 60 * 60 * 1000
  shape = {
    "cleanup.policy" = "delete"
    "retention.ms"   = tostring(local.retention_ms)
  }
  # A dead letter's copy is larger than its original, by the headers that say why.
  topics = {
    (local.requests)     = local.shape
    (local.accepted)     = local.shape
    (local.orders)       = local.shape
    (local.dead_letters) = merge(local.shape, { "max.message.bytes" = "2097152" })
  }

  folder = coalesce(var.schemas_folder, "${path.module}/../../../../schemas")
  # Registered under the record's full name (docs/adr/0010).
  subjects = toset([
    "ch.luimode.flashsale.AvroPurchaseRequest",
    "ch.luimode.flashsale.Barrier",
    "ch.luimode.flashsale.OrderCreated",
    "ch.luimode.flashsale.PurchaseRejected",
    "ch.luimode.flashsale.PurchaseRequest",
    "ch.luimode.flashsale.PurchasesAccepted",
  ])

  accounts = toset(["operator", "api", "worker", "keda"])
  # Who may do what: docs/security.md.
  rights = [
    { who = "operator", kind = "TOPIC", name = "flashsale.", pattern = "PREFIXED", operations = ["CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"] },
    { who = "api", kind = "TOPIC", name = "flashsale.", pattern = "PREFIXED", operations = ["DESCRIBE"] },
    { who = "api", kind = "TOPIC", name = local.accepted, pattern = "LITERAL", operations = ["WRITE"] },
    { who = "worker", kind = "TOPIC", name = "flashsale.", pattern = "PREFIXED", operations = ["DESCRIBE"] },
    { who = "worker", kind = "TOPIC", name = local.requests, pattern = "LITERAL", operations = ["READ"] },
    { who = "worker", kind = "TOPIC", name = local.accepted, pattern = "LITERAL", operations = ["READ", "WRITE"] },
    { who = "worker", kind = "TOPIC", name = local.orders, pattern = "LITERAL", operations = ["WRITE"] },
    { who = "worker", kind = "TOPIC", name = local.dead_letters, pattern = "LITERAL", operations = ["WRITE"] },
    { who = "worker", kind = "GROUP", name = local.requests_group, pattern = "LITERAL", operations = ["READ"] },
    { who = "worker", kind = "GROUP", name = local.accepted_group, pattern = "LITERAL", operations = ["READ"] },
    { who = "keda", kind = "TOPIC", name = local.requests, pattern = "LITERAL", operations = ["DESCRIBE"] },
    { who = "keda", kind = "TOPIC", name = local.accepted, pattern = "LITERAL", operations = ["DESCRIBE"] },
    { who = "keda", kind = "GROUP", name = local.requests_group, pattern = "LITERAL", operations = ["DESCRIBE"] },
    { who = "keda", kind = "GROUP", name = local.accepted_group, pattern = "LITERAL", operations = ["DESCRIBE"] },
  ]
  single = flatten([for right in local.rights : [for operation in right.operations :
    { who = right.who, kind = right.kind, name = right.name, pattern = right.pattern, operation = operation }
  ]])
}

data "confluent_kafka_cluster" "this" {
  id = var.cluster_id
  environment {
    id = var.environment_id
  }
}

data "confluent_schema_registry_cluster" "this" {
  environment {
    id = var.environment_id
  }
}

resource "confluent_kafka_topic" "all" {
  for_each = local.topics

  kafka_cluster {
    id = var.cluster_id
  }
  rest_endpoint    = data.confluent_kafka_cluster.this.rest_endpoint
  topic_name       = each.key
  partitions_count = var.partitions
  config           = each.value
  credentials {
    key    = var.kafka_admin.key
    secret = var.kafka_admin.secret
  }

  lifecycle {
    # What waits in there was promised to somebody.
    prevent_destroy = true
  }
}

resource "confluent_service_account" "all" {
  for_each = local.accounts

  display_name = "${var.prefix}-${each.key}"
  description  = "Flashsale: ${each.key}"
}

resource "confluent_api_key" "all" {
  for_each = local.accounts

  display_name = "${var.prefix}-${each.key}"
  description  = "Kafka key of Flashsale's ${each.key}"
  owner {
    id          = confluent_service_account.all[each.key].id
    api_version = confluent_service_account.all[each.key].api_version
    kind        = confluent_service_account.all[each.key].kind
  }
  managed_resource {
    id          = data.confluent_kafka_cluster.this.id
    api_version = data.confluent_kafka_cluster.this.api_version
    kind        = data.confluent_kafka_cluster.this.kind
    environment {
      id = var.environment_id
    }
  }
}

resource "confluent_kafka_acl" "all" {
  for_each = { for right in local.single : "${right.who} ${right.operation} ${right.kind} ${right.name}" => right }

  kafka_cluster {
    id = var.cluster_id
  }
  rest_endpoint = data.confluent_kafka_cluster.this.rest_endpoint
  resource_type = each.value.kind
  resource_name = each.value.name
  pattern_type  = each.value.pattern
  principal     = "User:${confluent_service_account.all[each.value.who].id}"
  host          = "*"
  operation     = each.value.operation
  permission    = "ALLOW"
  credentials {
    key    = var.kafka_admin.key
    secret = var.kafka_admin.secret
  }
}

resource "confluent_schema" "all" {
  for_each = local.subjects

  schema_registry_cluster {
    id = data.confluent_schema_registry_cluster.this.id
  }
  rest_endpoint = data.confluent_schema_registry_cluster.this.rest_endpoint
  subject_name  = each.key
  format        = "AVRO"
  schema        = file("${local.folder}/${each.key}.avsc")
  credentials {
    key    = var.schema_registry_admin.key
    secret = var.schema_registry_admin.secret
  }
}

# Processes read schemas by id; a key of their own that can do nothing else.
resource "confluent_service_account" "schema_reader" {
  display_name = "${var.prefix}-schema-reader"
  description  = "Flashsale: reads schemas"
}

resource "confluent_role_binding" "schema_reader" {
  for_each = local.subjects

  principal   = "User:${confluent_service_account.schema_reader.id}"
  role_name   = "DeveloperRead"
  crn_pattern = "${data.confluent_schema_registry_cluster.this.resource_name}/subject=${each.key}"
}

resource "confluent_api_key" "schema_reader" {
  display_name = "${var.prefix}-schema-reader"
  description  = "Schema registry key of Flashsale's processes"
  owner {
    id          = confluent_service_account.schema_reader.id
    api_version = confluent_service_account.schema_reader.api_version
    kind        = confluent_service_account.schema_reader.kind
  }
  managed_resource {
    id          = data.confluent_schema_registry_cluster.this.id
    api_version = data.confluent_schema_registry_cluster.this.api_version
    kind        = data.confluent_schema_registry_cluster.this.kind
    environment {
      id = var.environment_id
    }
  }
}
