# All that Terraform is told by hand: what stands in no file, the next apply would undo.
variable "environment" {
  description = "Name of a file in deploy/environments, without .yaml."
  type        = string

  validation {
    condition     = fileexists("${path.module}/../environments/${var.environment}.yaml")
    error_message = "There is no deploy/environments/${var.environment}.yaml."
  }
}
