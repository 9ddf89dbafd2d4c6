# Where audit records are kept. They stay in the project's _Default bucket as well, for as long as that keeps them:
# there the program reads plans and recent runs. The log bucket keeps them for queries, the storage bucket as files, which
# `review-audit-log` reads for long ranges and whose retention nobody can shorten once it is locked. A plan that would
# destroy or replace one of the buckets is refused, so another region or project for them means: move the records first.

resource "google_logging_project_bucket_config" "audit" {
  project        = local.environment.project
  location       = local.environment.region
  bucket_id      = "leo-lifecycle-audit"
  description    = "Audit records of the lifecycle jobs"
  retention_days = local.environment.retention.days
  locked         = local.environment.retention.locked

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.needed]
}

resource "google_logging_project_sink" "log_bucket" {
  name                   = "leo-lifecycle-audit-log"
  destination            = "logging.googleapis.com/${google_logging_project_bucket_config.audit.id}"
  filter                 = "logName=\"${local.audit_log}\""
  unique_writer_identity = true # a bucket of this project asks for no grant
}

resource "google_storage_bucket" "audit" {
  name                        = "${local.environment.project}-leo-lifecycle-audit"
  location                    = local.environment.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  retention_policy {
    retention_period = local.environment.retention.days * 24 * 60 * 60
    is_locked        = local.environment.retention.locked
  }

  labels = {
    application = "leo-lifecycle"
    environment = var.environment
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_logging_project_sink" "files" {
  name                   = "leo-lifecycle-audit-files"
  destination            = "storage.googleapis.com/${google_storage_bucket.audit.name}"
  filter                 = "logName=\"${local.audit_log}\""
  unique_writer_identity = true
}

resource "google_storage_bucket_iam_member" "files" {
  bucket = google_storage_bucket.audit.name
  role   = "roles/storage.objectCreator"
  member = google_logging_project_sink.files.writer_identity
}

resource "google_storage_bucket_iam_member" "reader" {
  for_each = toset([local.on_call, local.approvers])

  bucket = google_storage_bucket.audit.name
  role   = "roles/storage.objectViewer"
  member = each.key
}
