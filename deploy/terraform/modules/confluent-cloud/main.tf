# Topics, service accounts with their keys and rights, and schema subjects of Flashsale on Confluent
# Cloud. There every topic has three replicas, of which two must confirm.

module "names" {
  source = "../names"

  retention_days = var.retention_days
  schemas_folder = var.schemas_folder
}

locals {
  accounts = toset(["operator", "api", "worker", "keda"])

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

# Processes read schemas by id; a key of their own that can do nothing else.
resource "confluent_service_account" "schema_reader" {
  display_name = "${var.prefix}-schema-reader"
  description  = "Flashsale: reads schemas"
}

resource "confluent_role_binding" "schema_reader" {
  for_each = module.names.schemas

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
