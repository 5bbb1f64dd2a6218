variable "bootstrap_servers" {
  description = "Brokers as host:port; the application is told the same."
  type        = list(string)

  validation {
    condition     = length(var.bootstrap_servers) > 0 && alltrue([for one in var.bootstrap_servers : can(regex("^[^:/]+:[0-9]+$", one))])
    error_message = "Name at least one broker, each as host:port."
  }
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

variable "replication_factor" {
  description = "Copies of each partition. With fewer than 3, `flashsale topics ensure` refuses a cluster of three brokers or more."
  type        = number
  default     = 3
}

variable "min_insync_replicas" {
  description = "Copies that must be written before a purchase is confirmed."
  type        = number
  default     = 2
}

variable "retention_days" {
  description = "How long a message is kept; by default 14 days, and no less."
  type        = number
  default     = null
}

variable "principals" {
  description = "Who may do what, by the user's name: the operator (topics ensure), the API, the worker, KEDA, and other services that send requests or read orders."
  type = object({
    operator = optional(string, "flashsale-operator")
    api      = optional(string, "flashsale-api")
    worker   = optional(string, "flashsale-worker")
    keda     = optional(string, "flashsale-keda")
    others   = optional(set(string), [])
  })
  default = {}
}

variable "schema_registry_url" {
  description = "Confluent-compatible registry that the subjects are registered in; null registers none, and messages then need none."
  type        = string
  default     = null
}

variable "schemas_folder" {
  description = "Where the .avsc files are; by default this repository's."
  type        = string
  default     = null
}

variable "security_protocol" {
  description = "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; only told to the application."
  type        = string
  default     = "SASL_SSL"

  validation {
    condition     = contains(["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], var.security_protocol)
    error_message = "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
  }
}

variable "sasl_mechanism" {
  description = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; told to the application where the protocol has a login."
  type        = string
  default     = "SCRAM-SHA-512"

  validation {
    condition     = contains(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], var.sasl_mechanism)
    error_message = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
  }
}
