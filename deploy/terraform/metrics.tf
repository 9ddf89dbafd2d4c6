# What is counted of the audit log, for alerts and the dashboard.

locals {
  stdout = "projects/${local.environment.project}/logs/run.googleapis.com%2Fstdout"

  # By exit code, since a rule compares numbers where a label would hold their text. Every record is on standard output
  # too: there the closing record is found even where the audit log could not be written.
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
    runs_refused = {
      description = "Runs that a guard stopped"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=3"
      labels      = ["job", "dry_run"]
    }
    runs_without_inventory = {
      description = "Runs that could not read the inventory"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=4"
      labels      = ["job", "dry_run"]
    }
    runs_stopped = {
      description = "Runs that ended before they were done"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=5"
      labels      = ["job", "dry_run"]
    }
    runs_unrecorded = {
      description = "Runs that could not keep a record"
      log         = local.stdout
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=6"
      labels      = ["job", "dry_run"]
    }
    runs_ended_badly = {
      description = "Runs that ended with another code than 0 and said so"
      log         = local.stdout
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code>0"
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
    notices_failed = {
      description = "Owners who could not be told of a deletion"
      filter      = "jsonPayload.event=\"notice_failed\""
      labels      = ["job", "dry_run"]
    }

    # The oldest on record is not exempt. The next run after 6 hours is the second that could have taken it.
    runs_over_age = {
      description = "Live runs after which a runtime lives on that is older than the maximum age and 6 hours"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.job=\"delete-old-runtimes\" AND jsonPayload.dry_run=false AND jsonPayload.oldest.age_s>${local.max_age_s + 6 * 60 * 60}"
      labels      = ["job", "dry_run"]
    }
    runs_with_warnings = {
      description = "Runs that warn of something in their closing record"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.warnings=~\".\""
      labels      = ["job", "dry_run"]
    }

    # Runs that found many, by their closing records: a run is counted once, however its interval and a window lie.
    finding_overdue = {
      description = "Checks that found more overdue runtimes than the environment bears"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.job=\"check-autopause\" AND jsonPayload.reasons.autopause_overdue>${local.environment.alerts.autopause_overdue}"
      labels      = ["job", "dry_run"]
    }
    finding_stuck = {
      description = "Checks that found more stuck runtimes than the environment bears"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.job=\"check-autopause\" AND jsonPayload.reasons.stuck>${local.environment.alerts.stuck}"
      labels      = ["job", "dry_run"]
    }
    finding_errored = {
      description = "Checks that found more runtimes in Error than the environment bears"
      filter      = "jsonPayload.event=\"run_finished\" AND jsonPayload.job=\"check-autopause\" AND jsonPayload.reasons.errored>${local.environment.alerts.errored}"
      labels      = ["job", "dry_run"]
    }

    schedule_errors = {
      description = "Calls of Cloud Scheduler that started nothing"
      log         = "projects/${local.environment.project}/logs/cloudscheduler.googleapis.com%2Fexecutions"
      filter      = "resource.type=\"cloud_scheduler_job\" AND severity>=ERROR"
      labels      = []
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
    oldest = {
      description = "Age of the oldest runtime that lives on after a run and is not exempt"
      field       = "oldest.age_s"
      unit        = "s"
    }
    late = {
      description = "How much later than it was due the last runtime of a run was deleted"
      field       = "late_s.max"
      unit        = "s"
    }
  }
}

resource "google_logging_metric" "count" {
  for_each = local.counts

  name             = "leo_lifecycle/${each.key}"
  description      = each.value.description
  filter           = "logName=\"${try(each.value.log, local.audit_log)}\" AND ${each.value.filter}"
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
