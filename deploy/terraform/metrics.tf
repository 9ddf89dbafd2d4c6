# What is counted of the audit log, for alerts and the dashboard.

locals {
  counts = {
    runs = {
      description = "Runs that wrote their closing record"
      filter      = "jsonPayload.event=\"run_finished\""
      labels      = ["job", "dry_run"]
    }
    runs_with_failures = {
      description = "Runs that were done, but something in them failed or is in doubt"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=1"
      labels      = ["job", "dry_run"]
    }
    runs_skipped = {
      description = "Runs that left the field to an older one"
      filter      = "jsonPayload.event=\"run_skipped\""
      labels      = ["job", "dry_run"]
    }
    refusals = {
      description = "Guards that stopped a run"
      filter      = "jsonPayload.event=\"run_refused\""
      labels      = ["job", "dry_run", "guard"]
    }
    runtimes = {
      description = "Runtimes looked at, by what was decided and what became of it"
      filter      = "jsonPayload.event=\"runtime_audited\""
      labels      = ["job", "dry_run", "action", "reason", "outcome"]
    }
    confirmations = {
      description = "Deletions that were asked about, by what became of them"
      filter      = "jsonPayload.event=\"deletion_confirmed\""
      labels      = ["job", "dry_run", "outcome"]
    }
  }

  distributions = {
    duration = {
      description = "How long runs took"
      field       = "duration_s"
      unit        = "s"
    }
    listed = {
      description = "Runtimes that runs listed"
      field       = "listed"
      unit        = "1"
    }
  }
}

resource "google_logging_metric" "count" {
  for_each = local.counts

  name             = "leo_lifecycle/${each.key}"
  description      = each.value.description
  filter           = "logName=\"${local.audit_log}\" AND ${each.value.filter}"
  label_extractors = { for label in each.value.labels : label => "EXTRACT(jsonPayload.${label})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    dynamic "labels" {
      for_each = each.value.labels

      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_logging_metric" "distribution" {
  for_each = local.distributions

  name            = "leo_lifecycle/${each.key}"
  description     = each.value.description
  filter          = "logName=\"${local.audit_log}\" AND jsonPayload.event=\"run_finished\""
  value_extractor = "EXTRACT(jsonPayload.${each.value.field})"

  label_extractors = {
    job     = "EXTRACT(jsonPayload.job)"
    dry_run = "EXTRACT(jsonPayload.dry_run)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.value.unit

    labels {
      key        = "job"
      value_type = "STRING"
    }

    labels {
      key        = "dry_run"
      value_type = "STRING"
    }
  }

  bucket_options {
    exponential_buckets {
      num_finite_buckets = 40
      growth_factor      = 1.5
      scale              = 1
    }
  }

  depends_on = [google_project_service.needed]
}
