variable "environment" {
  description = "Name of a file in deploy/environments, without .yaml."
  type        = string

  validation {
    condition     = fileexists("${path.module}/../environments/${var.environment}.yaml")
    error_message = "There is no deploy/environments/${var.environment}.yaml."
  }
}

variable "notification_channels" {
  description = "Monitoring channels that every alert is sent to: projects/P/notificationChannels/ID."
  type        = list(string)
  default     = []
}

variable "audit_retention_days" {
  description = "How long audit records are kept, in the log bucket and in the storage bucket."
  type        = number
  default     = 400
}

variable "audit_retention_locked" {
  description = "Whether nobody, ever, can shorten that or delete the buckets. It cannot be undone."
  type        = bool
  default     = false
}

variable "autopause_overdue_threshold" {
  description = "So many runtimes whose autopause is overdue within an hour are an alert."
  type        = number
  default     = 10
}
