# Flashsale's topics, service accounts and subjects in an environment of Confluent Cloud.
#
#   export CONFLUENT_CLOUD_API_KEY=… CONFLUENT_CLOUD_API_SECRET=…
#   terraform init && terraform apply
#   terraform output -json settings
#   terraform output -json secrets

terraform {
  required_version = ">= 1.5"
  required_providers {
    confluent = {
      source  = "confluentinc/confluent"
      version = "~> 2.0"
    }
  }
}

variable "environment_id" {
  description = "The environment (env-…)."
  type        = string
}

variable "cluster_id" {
  description = "The Kafka cluster (lkc-…)."
  type        = string
}

variable "kafka_admin" {
  description = "API key of the cluster."
  type        = object({ key = string, secret = string })
  sensitive   = true
}

variable "schema_registry_admin" {
  description = "API key of the registry."
  type        = object({ key = string, secret = string })
  sensitive   = true
}

provider "confluent" {}

module "flashsale" {
  source = "../../modules/confluent-cloud"

  environment_id        = var.environment_id
  cluster_id            = var.cluster_id
  kafka_admin           = var.kafka_admin
  schema_registry_admin = var.schema_registry_admin
}

output "settings" {
  description = "The application's settings."
  value       = module.flashsale.settings
}

output "bootstrap_servers" {
  description = "KAFKA_BOOTSTRAP_SERVERS."
  value       = module.flashsale.bootstrap_servers
}

output "secrets" {
  description = "Each process's logins."
  value       = module.flashsale.secrets
  sensitive   = true
}

output "keda" {
  description = "What the Secret flashsale-keda holds."
  value       = module.flashsale.keda
  sensitive   = true
}
