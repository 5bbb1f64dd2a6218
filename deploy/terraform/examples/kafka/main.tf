# Flashsale's topics, rights and subjects on a Kafka of one's own.
#
#   terraform init && terraform apply
#   terraform output -json settings

terraform {
  required_version = ">= 1.5"
  required_providers {
    kafka = {
      source  = "Mongey/kafka"
      version = "~> 0.12"
    }
    schemaregistry = {
      source  = "cultureamp/schemaregistry"
      version = "~> 1.5"
    }
  }
}

variable "bootstrap_servers" {
  description = "Brokers as host:port."
  type        = list(string)
}

variable "admin" {
  description = "A user that may make topics and ACLs."
  type        = object({ username = string, password = string })
  sensitive   = true
}

variable "schema_registry_url" {
  description = "The schema registry."
  type        = string
}

variable "schema_registry_admin" {
  description = "A user that may write subjects."
  type        = object({ username = string, password = string })
  sensitive   = true
}

provider "kafka" {
  bootstrap_servers = var.bootstrap_servers
  tls_enabled       = true
  sasl_mechanism    = "scram-sha512"
  sasl_username     = var.admin.username
  sasl_password     = var.admin.password
}

provider "schemaregistry" {
  schema_registry_url = var.schema_registry_url
  username            = var.schema_registry_admin.username
  password            = var.schema_registry_admin.password
}

module "flashsale" {
  source = "../../modules/kafka"

  bootstrap_servers   = var.bootstrap_servers
  schema_registry_url = var.schema_registry_url
  principals = {
    others = ["shop-backend"]
  }
}

output "settings" {
  description = "The application's settings."
  value       = module.flashsale.settings
}

output "bootstrap_servers" {
  description = "KAFKA_BOOTSTRAP_SERVERS."
  value       = module.flashsale.bootstrap_servers
}
