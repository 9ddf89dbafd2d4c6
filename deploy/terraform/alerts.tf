# When a person is called. Each alert has the name of a section of deploy/RUNBOOK.md and carries its text.

locals {
  # Rehearsals that somebody starts by hand call nobody. Of the scheduled jobs only deletion is a live run.
  scheduled_run = "(jsonPayload.dry_run=false OR jsonPayload.job=\"check-autopause\" OR jsonPayload.job=\"confirm-deletions\")"

  # One record is enough. Each new combination of labels is an alert of its own, so that there is one a run, not one for
  # each runtime: a lost role makes hundreds of deletions `not_visible` at once.
  alerts_on_a_record = {
    "Refused by a guard" = {
      severity = "ERROR"
      filter   = "logName=\"${local.audit_log}\" AND jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=3 AND ${local.scheduled_run}"
      labels   = { job = "EXTRACT(jsonPayload.job)", run_id = "EXTRACT(jsonPayload.run_id)" }
    }
    "The inventory could not be read" = {
      severity = "ERROR"
      filter   = "logName=\"${local.audit_log}\" AND jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=4 AND ${local.scheduled_run}"
      labels   = { job = "EXTRACT(jsonPayload.job)", run_id = "EXTRACT(jsonPayload.run_id)" }
    }
    # Where the audit log cannot be written, the closing record is on standard output only.
    "A record could not be kept" = {
      severity = "CRITICAL"
      filter   = "(logName=\"${local.audit_log}\" OR logName=\"projects/${local.environment.project}/logs/run.googleapis.com%2Fstdout\") AND jsonPayload.event=\"run_finished\" AND jsonPayload.exit_code=6"
      labels   = { job = "EXTRACT(jsonPayload.job)", run_id = "EXTRACT(jsonPayload.run_id)" }
    }
    "A deletion did not happen" = {
      severity = "WARNING"
      filter   = "logName=\"${local.audit_log}\" AND jsonPayload.event=\"deletion_confirmed\" AND jsonPayload.outcome=(\"stuck\" OR \"survived\" OR \"not_visible\")"
      labels   = { outcome = "EXTRACT(jsonPayload.outcome)", run_id = "EXTRACT(jsonPayload.run_id)" }
    }
  }

  # So many within a while.
  alerts_on_a_count = {
    "Runs keep ending with failures" = {
      severity = "WARNING"
      metric   = "runs_with_failures"
      filter   = "metric.label.job=\"delete-old-runtimes\" AND metric.label.dry_run=\"false\""
      above    = 2
      hours    = 10
    }
    "Runs are skipped again and again" = {
      severity = "WARNING"
      metric   = "runs_skipped"
      filter   = "metric.label.dry_run=\"false\""
      above    = 1
      hours    = 7
    }
    "Autopause is overdue for many" = {
      severity = "WARNING"
      metric   = "runtimes"
      filter   = "metric.label.job=\"check-autopause\" AND metric.label.reason=\"autopause_overdue\""
      above    = local.environment.alerts.autopause_overdue
      hours    = 1
    }
  }

  # Cloud Monitoring fills in which run and which job an alert is about.
  texts = {
    for name, section in local.runbook :
    name => replace(replace(section, "RUN_ID", "$${log.extracted_label.run_id}"),
    "JOB", contains(keys(local.alerts_on_a_count), name) ? "$${metric.label.job}" : "$${resource.label.job_name}")
  }

  live_deletions = "resource.type=\"cloud_run_job\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.count["runs"].name}\" AND metric.label.job=\"delete-old-runtimes\" AND metric.label.dry_run=\"false\""
}

resource "google_monitoring_alert_policy" "record" {
  for_each = local.alerts_on_a_record

  display_name          = each.key
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.environment.alerts.channels

  conditions {
    display_name = each.key

    condition_matched_log {
      filter           = each.value.filter
      label_extractors = each.value.labels
    }
  }

  alert_strategy {
    auto_close = "86400s"

    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    subject   = "${var.environment}: ${each.key}"
    content   = local.texts[each.key]
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "count" {
  for_each = local.alerts_on_a_count

  display_name          = each.key
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.environment.alerts.channels

  conditions {
    display_name = each.key

    condition_threshold {
      filter          = "resource.type=\"cloud_run_job\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.count[each.value.metric].name}\" AND ${each.value.filter}"
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.above
      duration        = "0s"

      aggregations {
        alignment_period     = "${each.value.hours * 60 * 60}s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["metric.label.job"]
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject   = "${var.environment}: ${each.key}"
    content   = local.texts[each.key]
    mime_type = "text/markdown"
  }
}

# A counter that has stopped is written as zeros for a while and then not at all: each condition sees one of the two.
resource "google_monitoring_alert_policy" "silence" {
  display_name          = "No live deletion run in 7 hours"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.environment.alerts.channels

  conditions {
    display_name = "none was counted"

    condition_threshold {
      filter                  = local.live_deletions
      comparison              = "COMPARISON_LT"
      threshold_value         = 1
      duration                = "300s"
      evaluation_missing_data = "EVALUATION_MISSING_DATA_ACTIVE"

      aggregations {
        alignment_period     = "25200s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  conditions {
    display_name = "nothing is counted any more"

    condition_absent {
      filter   = local.live_deletions
      duration = "25200s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject   = "${var.environment}: No live deletion run in 7 hours"
    content   = local.texts["No live deletion run in 7 hours"]
    mime_type = "text/markdown"
  }
}

# Cloud Run's own word: a run that crashed, was killed or never began writes no closing record.
resource "google_monitoring_alert_policy" "execution" {
  display_name          = "An execution failed"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.environment.alerts.channels

  conditions {
    display_name = "Cloud Run counts a failed execution"

    condition_threshold {
      filter          = "resource.type=\"cloud_run_job\" AND metric.type=\"run.googleapis.com/job/completed_execution_count\" AND metric.label.result=\"failed\" AND resource.label.job_name=one_of(${join(",", [for name in keys(local.live) : "\"${name}\""])})"
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.label.job_name"]
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject   = "${var.environment}: An execution failed"
    content   = local.texts["An execution failed"]
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.needed]
}
