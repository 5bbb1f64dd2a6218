# Topics, rights and schema subjects of Flashsale on any Kafka. Shapes are those that
# `flashsale topics ensure` would make and `flashsale doctor` checks; rights are those of
# docs/security.md.

locals {
  requests     = "flashsale.purchase.requests"
  accepted     = "flashsale.purchase.accepted"
  orders       = "flashsale.orders"
  dead_letters = "flashsale.purchase.requests-dlt"

  requests_group = "flashsale-purchase-processor"
  accepted_group = "flashsale-purchase-accepted"

  retention_ms = var.retention_days * 24 * 60 * 60 * 1000
  shape = {
    "cleanup.policy"      = "delete"
    "retention.ms"        = tostring(local.retention_ms)
    "min.insync.replicas" = tostring(var.min_insync_replicas)
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
  subjects = var.schema_registry_url == null ? [] : [
    "ch.luimode.flashsale.AvroPurchaseRequest",
    "ch.luimode.flashsale.Barrier",
    "ch.luimode.flashsale.OrderCreated",
    "ch.luimode.flashsale.PurchaseRejected",
    "ch.luimode.flashsale.PurchaseRequest",
    "ch.luimode.flashsale.PurchasesAccepted",
  ]

  # Who may do what: docs/security.md.
  rights = [
    { who = "operator", kind = "Topic", name = "flashsale.", pattern = "Prefixed", operations = ["Create", "Describe", "DescribeConfigs"] },
    { who = "api", kind = "Topic", name = "flashsale.", pattern = "Prefixed", operations = ["Describe"] },
    { who = "api", kind = "Topic", name = local.accepted, pattern = "Literal", operations = ["Write"] },
    { who = "worker", kind = "Topic", name = "flashsale.", pattern = "Prefixed", operations = ["Describe"] },
    { who = "worker", kind = "Topic", name = local.requests, pattern = "Literal", operations = ["Read"] },
    { who = "worker", kind = "Topic", name = local.accepted, pattern = "Literal", operations = ["Read", "Write"] },
    { who = "worker", kind = "Topic", name = local.orders, pattern = "Literal", operations = ["Write"] },
    { who = "worker", kind = "Topic", name = local.dead_letters, pattern = "Literal", operations = ["Write"] },
    { who = "worker", kind = "Group", name = local.requests_group, pattern = "Literal", operations = ["Read"] },
    { who = "worker", kind = "Group", name = local.accepted_group, pattern = "Literal", operations = ["Read"] },
    { who = "keda", kind = "Topic", name = local.requests, pattern = "Literal", operations = ["Describe"] },
    { who = "keda", kind = "Topic", name = local.accepted, pattern = "Literal", operations = ["Describe"] },
    { who = "keda", kind = "Group", name = local.requests_group, pattern = "Literal", operations = ["Describe"] },
    { who = "keda", kind = "Group", name = local.accepted_group, pattern = "Literal", operations = ["Describe"] },
  ]
  others = flatten([for other in var.principals.others : [
    { who = other, kind = "Topic", name = local.requests, pattern = "Literal", operation = "Write" },
    { who = other, kind = "Topic", name = local.orders, pattern = "Literal", operation = "Read" },
    { who = other, kind = "Group", name = other, pattern = "Literal", operation = "Read" },
  ]])
  single = concat(local.others, flatten([for right in local.rights : [for operation in right.operations :
    { who = var.principals[right.who], kind = right.kind, name = right.name, pattern = right.pattern, operation = operation }
  ]]))
}

resource "kafka_topic" "all" {
  for_each = local.topics

  name               = each.key
  partitions         = var.partitions
  replication_factor = var.replication_factor
  config             = each.value

  lifecycle {
    # What waits in there was promised to somebody.
    prevent_destroy = true
  }
}

resource "kafka_acl" "all" {
  for_each = { for right in local.single : "${right.who} ${right.operation} ${right.kind} ${right.name}" => right }

  resource_type                = each.value.kind
  resource_name                = each.value.name
  resource_pattern_type_filter = each.value.pattern
  acl_principal                = "User:${each.value.who}"
  acl_host                     = "*"
  acl_operation                = each.value.operation
  acl_permission_type          = "Allow"
}

resource "schemaregistry_schema" "all" {
  for_each = toset(local.subjects)

  subject             = each.key
  schema_type         = "AVRO"
  schema              = file("${local.folder}/${each.key}.avsc")
  compatibility_level = "BACKWARD"
}
