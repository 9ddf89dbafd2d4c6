# The Cloud Run jobs, and when Cloud Scheduler starts them.

resource "google_project_service" "needed" {
  for_each = toset([
    "cloudscheduler.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "run.googleapis.com",
  ])

  service            = each.key
  disable_on_destroy = false
}

resource "google_storage_bucket" "settings" {
  name                        = "${local.environment.project}-leo-lifecycle-settings"
  location                    = local.environment.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  labels = {
    application = "leo-lifecycle"
    environment = var.environment
  }
}

resource "google_storage_bucket_object" "settings" {
  for_each = local.files

  bucket  = google_storage_bucket.settings.name
  name    = each.key
  content = each.value
}

resource "google_storage_bucket_iam_member" "settings" {
  bucket = google_storage_bucket.settings.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.account["runner"].member
}

resource "google_cloud_run_v2_job" "job" {
  for_each = merge(local.live, local.rehearsals)

  name                = each.key
  location            = local.environment.region
  deletion_protection = false # a job holds nothing; its records do, and they are kept elsewhere

  labels = {
    application = "leo-lifecycle"
    environment = var.environment
  }

  template {
    task_count  = try(local.environment.tasks, 1)
    parallelism = try(local.environment.tasks, 1)

    template {
      service_account = google_service_account.account["runner"].email
      timeout         = local.task_timeout
      max_retries     = 0 # each exit code is final, the next schedule is the retry

      containers {
        image   = local.environment.image
        command = each.value.command
        args    = each.value.args

        resources {
          limits = {
            cpu    = "1"
            memory = "512Mi"
          }
        }

        volume_mounts {
          name       = "settings"
          mount_path = local.mounted_at
        }
      }

      volumes {
        name = "settings"

        gcs {
          bucket    = google_storage_bucket.settings.name
          read_only = true
        }
      }
    }
  }

  depends_on = [google_project_service.needed, google_storage_bucket_object.settings, google_storage_bucket_iam_member.settings]
}

resource "google_cloud_scheduler_job" "schedule" {
  for_each = local.scheduled

  name             = each.key
  description      = each.value.description
  region           = local.environment.region
  schedule         = each.value.schedule
  time_zone        = each.value.timezone
  paused           = true
  attempt_deadline = "60s" # for the call, which is answered when the execution is accepted

  retry_config {
    retry_count = 0
  }

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.job[each.key].id}:run"
    body        = base64encode("{}")

    headers = {
      "Content-Type" = "application/json"
    }

    oauth_token {
      service_account_email = google_service_account.account["scheduler"].email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  lifecycle {
    # A new schedule waits for a person to resume it, and a pause outlasts the next apply.
    ignore_changes = [paused]
  }

  depends_on = [google_project_service.needed]
}
