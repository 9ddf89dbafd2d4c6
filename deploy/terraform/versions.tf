terraform {
  required_version = "~> 1.5"

  # terraform init -reconfigure -backend-config=bucket=P-terraform -backend-config=prefix=leo-lifecycle/ENV
  backend "gcs" {}

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50.0" # provider.schema.json is of this release
    }
  }
}

provider "google" {
  project = local.environment.project
  region  = local.environment.region
}

# A state belongs to one environment. A forgotten `init -reconfigure` plans this one's replacement, which is refused.
resource "terraform_data" "environment_of_this_state" {
  triggers_replace = [var.environment, local.environment.project]

  lifecycle {
    prevent_destroy = true
  }
}
