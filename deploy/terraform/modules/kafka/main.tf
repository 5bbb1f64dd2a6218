# Topics, rights and schema subjects of Flashsale on any Kafka. Shapes are those that
# `flashsale topics ensure` would make and `flashsale doctor` checks; rights are those of
# docs/security.md.

module "names" {
  source = "../names"

  retention_days = var.retention_days
  schemas_folder = var.schemas_folder
}

locals {
  others = flatten([for other in var.principals.others : [
    { who = other, kind = "Topic", name = module.names.settings.FLASHSALE_REQUESTS_TOPIC, pattern = "Literal", operation = "Write" },
    { who = other, kind = "Topic", name = module.names.settings.FLASHSALE_ORDERS_TOPIC, pattern = "Literal", operation = "Read" },
    { who = other, kind = "Group", name = other, pattern = "Literal", operation = "Read" },
  ]])
  # Distinct: two of them may be one user.
  rights = distinct(concat(local.others, [
    for right in module.names.rights : merge(right, { who = var.principals[right.who] })
  ]))
}

resource "kafka_topic" "all" {
  for_each = module.names.topics

  name               = each.key
  partitions         = var.partitions
  replication_factor = var.replication_factor
  config             = merge(each.value, { "min.insync.replicas" = tostring(var.min_insync_replicas) })

  lifecycle {
    # What waits in there was promised to somebody.
    prevent_destroy = true

    precondition {
      condition     = var.min_insync_replicas <= var.replication_factor
      error_message = "With more min_insync_replicas than replicas nothing could be written."
    }
  }
}

resource "kafka_acl" "all" {
  for_each = { for right in local.rights : "${right.who} ${right.operation} ${right.kind} ${right.name}" => right }

  resource_type                = each.value.kind
  resource_name                = each.value.name
  resource_pattern_type_filter = each.value.pattern
  acl_principal                = "User:${each.value.who}"
  acl_host                     = "*"
  acl_operation                = each.value.operation
  acl_permission_type          = "Allow"
}

resource "schemaregistry_schema" "all" {
  for_each = { for name, schema in module.names.schemas : name => schema if var.schema_registry_url != null }

  subject             = each.key
  schema_type         = "AVRO"
  schema              = each.value
  compatibility_level = "BACKWARD"
}
