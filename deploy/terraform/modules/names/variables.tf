variable "retention_days" {
  description = "How long a message is kept; at least 14, so that nothing accepted expires while workers are away."
  type        = number
  default     = 14
  nullable    = false # null is the default, so that it stands here alone

  validation {
    condition     = var.retention_days >= 14
    error_message = "The engine asks for 14 days or more."
  }
}

variable "schemas_folder" {
  description = "Where the .avsc files are; by default this repository's."
  type        = string
  default     = null
}
