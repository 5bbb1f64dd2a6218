variable "environment_id" {
  description = "The Confluent environment of cluster and registry (env-…)."
  type        = string
}

variable "cluster_id" {
  description = "The Kafka cluster (lkc-…); `standard` or larger, since ACLs need that."
  type        = string
}

variable "kafka_admin" {
  description = "API key of the cluster whose owner may make topics and ACLs."
  type        = object({ key = string, secret = string })
  sensitive   = true
}

variable "schema_registry_admin" {
  description = "API key of the schema registry whose owner may write subjects."
  type        = object({ key = string, secret = string })
  sensitive   = true
}

variable "partitions" {
  description = "Partitions of each topic; bounds how many workers work side by side (FLASHSALE_PARTITIONS)."
  type        = number
  default     = 8

  validation {
    condition     = var.partitions >= 1 && var.partitions <= 128
    error_message = "From 1 to 128, as FLASHSALE_PARTITIONS may be."
  }
}

variable "retention_days" {
  description = "How long a message is kept; by default 14 days, and no less."
  type        = number
  default     = null
}

variable "prefix" {
  description = "What the names of the service accounts begin with."
  type        = string
  default     = "flashsale"
}

variable "schemas_folder" {
  description = "Where the .avsc files are; by default this repository's."
  type        = string
  default     = null
}
