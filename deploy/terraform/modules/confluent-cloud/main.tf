# Topics, service accounts with their keys and rights, and schema subjects of Flashsale on Confluent
# Cloud. There every topic has three replicas, of which two must confirm.

module "names" {
  source = "../names"

  retention_days = var.retention_days
  schemas_folder = var.schemas_folder
}

locals {
  accounts = toset(["operator", "api", "worker", "keda"])
  schema_roles = {
    reader = ["DeveloperRead"]
    writer = ["DeveloperRead", "DeveloperWrite"]
  }
  schema_rights = flatten([for who, roles in local.schema_roles : [
    for pair in setproduct(roles, keys(module.names.schemas)) : { who = who, role = pair[0], subject = pair[1] }
  ]])

  # Confluent's words for those of Kafka's tools.
  spelled = {
    Topic           = "TOPIC"
    Group           = "GROUP"
    Literal         = "LITERAL"
    Prefixed        = "PREFIXED"
    Create          = "CREATE"
    Describe        = "DESCRIBE"
    DescribeConfigs = "DESCRIBE_CONFIGS"
    Read            = "READ"
    Write           = "WRITE"
  }
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
  for_each = module.names.topics

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
  for_each = { for right in module.names.rights : "${right.who} ${right.operation} ${right.kind} ${right.name}" => right }

  kafka_cluster {
    id = var.cluster_id
  }
  rest_endpoint = data.confluent_kafka_cluster.this.rest_endpoint
  resource_type = local.spelled[each.value.kind]
  resource_name = each.value.name
  pattern_type  = local.spelled[each.value.pattern]
  principal     = "User:${confluent_service_account.all[each.value.who].id}"
  host          = "*"
  operation     = local.spelled[each.value.operation]
  permission    = "ALLOW"
  credentials {
    key    = var.kafka_admin.key
    secret = var.kafka_admin.secret
  }
}

resource "confluent_schema" "all" {
  for_each = module.names.schemas

  schema_registry_cluster {
    id = data.confluent_schema_registry_cluster.this.id
  }
  rest_endpoint = data.confluent_schema_registry_cluster.this.rest_endpoint
  subject_name  = each.key
  format        = "AVRO"
  schema        = each.value
  credentials {
    key    = var.schema_registry_admin.key
    secret = var.schema_registry_admin.secret
  }
}

# Processes read schemas by id, with a key that can do nothing else; the operator registers them.
resource "confluent_service_account" "schemas" {
  for_each = local.schema_roles

  display_name = "${var.prefix}-schema-${each.key}"
  description  = "Flashsale: schemas, as ${each.key}"
}

resource "confluent_role_binding" "schemas" {
  for_each = { for right in local.schema_rights : "${right.who} ${right.role} ${right.subject}" => right }

  principal   = "User:${confluent_service_account.schemas[each.value.who].id}"
  role_name   = each.value.role
  crn_pattern = "${data.confluent_schema_registry_cluster.this.resource_name}/subject=${each.value.subject}"
}

resource "confluent_api_key" "schemas" {
  for_each = local.schema_roles

  display_name = "${var.prefix}-schema-${each.key}"
  description  = "Schema registry key of Flashsale, as ${each.key}"
  owner {
    id          = confluent_service_account.schemas[each.key].id
    api_version = confluent_service_account.schemas[each.key].api_version
    kind        = confluent_service_account.schemas[each.key].kind
  }
  managed_resource {
    id          = data.confluent_schema_registry_cluster.this.id
    api_version = data.confluent_schema_registry_cluster.this.api_version
    kind        = data.confluent_schema_registry_cluster.this.kind
    environment {
      id = var.environment_id
    }
  }

  # A key is tried as it is made, which wants its rights.
  depends_on = [confluent_role_binding.schemas]
}
