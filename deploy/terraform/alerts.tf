# When a person is called. Each alert has the name of a section of deploy/RUNBOOK.md and carries its text.
#
# Every alert watches the live jobs by their names, each by a condition of its own: a rehearsal calls nobody, and while a
# cause lasts, run after run, its one incident stays open. So all of them count over a window longer than an interval; what
# runs once a week is counted over the longest window that there is. A policy has six conditions at most, one a job, and
# one alone where that is a query: of those each job has a policy of its own.

locals {
  # Of each live job: hours between two runs, and the most runs of which a window (25 hours at the most) holds each.
  intervals = { for name, entry in local.scheduled : name => entry.interval_hours }

  # So many runs in a row (or all of a day, where that is fewer) call somebody.
  alerts_on_runs = {
    "Refused by a guard"              = { severity = "ERROR", metric = "runs_refused", runs = 1 }
    "The inventory could not be read" = { severity = "ERROR", metric = "runs_without_inventory", runs = 1 }
    "A record could not be kept"      = { severity = "CRITICAL", metric = "runs_unrecorded", runs = 1 }
    "Runs keep ending with failures" = {
      severity = "WARNING", metric = "runs_with_failures", runs = 3
      jobs     = ["delete-old-runtimes", "check-autopause"] # what confirm-deletions finds has an alert of its own
    }
    "A runtime is above the maximum age" = {
      severity = "ERROR", metric = "runs_over_age", runs = 1, jobs = ["delete-old-runtimes"]
    }
    "Runs keep warning"                      = { severity = "WARNING", metric = "runs_with_warnings", runs = 3 }
    "Runs are stopped early again and again" = { severity = "WARNING", metric = "runs_stopped", runs = 2 }
    "Runs are skipped again and again"       = { severity = "WARNING", metric = "runs_skipped", runs = 2 }
    "A deletion did not happen" = {
      severity = "WARNING", metric = "confirmations", runs = 1, by = ["metric.label.outcome"]
      jobs     = ["confirm-deletions"]
      filter   = "metric.label.outcome=one_of(\"stuck\",\"errored\",\"survived\",\"not_visible\")"
    }
    "Owners are not told"           = { severity = "WARNING", metric = "notices_failed", runs = 1, jobs = ["notify-owners"] }
    "Autopause is overdue for many" = { severity = "WARNING", metric = "finding_overdue", runs = 1, jobs = ["check-autopause"] }
    "Many runtimes are stuck"       = { severity = "WARNING", metric = "finding_stuck", runs = 1, jobs = ["check-autopause"] }
    "Many runtimes are in Error"    = { severity = "WARNING", metric = "finding_errored", runs = 1, jobs = ["check-autopause"] }
    "A schedule could not start its job" = {
      severity = "ERROR", metric = "schedule_errors", runs = 1, resource = "cloud_scheduler_job", names = "job_id"
    }
  }

  conditions = {
    for alert, told in local.alerts_on_runs : alert => {
      for job, hours in local.intervals : job => {
        runs   = max(1, min(told.runs, floor(24 / hours)))
        filter = join(" AND ", compact(["resource.type=\"${try(told.resource, "cloud_run_job")}\"", "resource.label.${try(told.names, "job_name")}=\"${job}\"", "metric.type=\"${local.metric_types[told.metric]}\"", try(told.filter, "")]))
      }
      if contains(try(told.jobs, [job]), job)
    }
  }

  metric_types = { for name, metric in google_logging_metric.count : name => "logging.googleapis.com/user/${metric.name}" }

  # A condition has the name of its job: Cloud Monitoring fills it in.
  texts = {
    for name, section in local.runbook :
    name => "${replace(section, "/\\bJOB\\b/", "$${condition.display_name}")}\n\n${local.who_is_called}"
  }
  who_is_called = "Approvers: ${local.environment.accounts.approvers}. Deployers: ${local.environment.accounts.deployers}. Others stand under \"Contacts\". Quoted titles are sections of deploy/RUNBOOK.md."
}

resource "google_monitoring_alert_policy" "runs" {
  for_each = { for alert, told in local.alerts_on_runs : alert => told if length(local.conditions[alert]) > 0 }

  display_name          = each.key
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.environment.alerts.channels

  dynamic "conditions" {
    for_each = local.conditions[each.key]
    iterator = job

    content {
      display_name = job.key

      condition_threshold {
        filter          = job.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = job.value.runs - 1
        duration        = "0s"

        aggregations {
          alignment_period     = "${min(job.value.runs * local.intervals[job.key] + 1, 25) * 60 * 60}s"
          per_series_aligner   = "ALIGN_DELTA"
          cross_series_reducer = "REDUCE_SUM"
          group_by_fields      = try(each.value.by, [])
        }
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

  lifecycle {
    precondition {
      condition     = var.environment != "prod" || length(local.environment.alerts.channels) > 0
      error_message = "alerts.channels is empty in deploy/environments/prod.yaml: nobody would be called."
    }
  }
}

check "somebody_is_called" {
  assert {
    condition     = length(local.environment.alerts.channels) > 0
    error_message = "alerts.channels is empty in deploy/environments/${var.environment}.yaml: its alerts call nobody."
  }
}

# Where Leonardo stops saying when a runtime was used, the rule spares what may be busy, and that is soon everything.
resource "google_monitoring_alert_policy" "busy" {
  count = contains(keys(local.intervals), "check-autopause") ? 1 : 0

  display_name          = "Too many may be busy"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.environment.alerts.channels

  conditions {
    display_name = "check-autopause"

    condition_threshold {
      filter             = "resource.type=\"cloud_run_job\" AND resource.label.job_name=\"check-autopause\" AND metric.type=\"${local.metric_types["runtimes"]}\" AND metric.label.reason=\"kernel_may_be_busy\""
      denominator_filter = "resource.type=\"cloud_run_job\" AND resource.label.job_name=\"check-autopause\" AND metric.type=\"${local.metric_types["runtimes"]}\" AND metric.label.reason=one_of(\"in_use\",\"kernel_may_be_busy\",\"autopause_overdue\")"
      comparison         = "COMPARISON_GT"
      threshold_value    = local.environment.alerts.busy_share
      duration           = "0s"

      aggregations {
        alignment_period     = "${(local.intervals["check-autopause"] + 1) * 60 * 60}s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }

      denominator_aggregations {
        alignment_period     = "${(local.intervals["check-autopause"] + 1) * 60 * 60}s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject   = "${var.environment}: Too many may be busy"
    content   = local.texts["Too many may be busy"]
    mime_type = "text/markdown"
  }
}

# What ran in the last week (six intervals, where that is more) and not in the last two intervals; of what runs once a day
# or more seldom, not in the last one. What has never run yet calls nobody. A window of 25 hours, which bounds the other
# conditions, does not bound a query.
resource "google_monitoring_alert_policy" "silence" {
  for_each = local.intervals

  display_name          = "A job has not run: ${each.key}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.environment.alerts.channels

  conditions {
    display_name = each.key

    condition_prometheus_query_language {
      query = join(" unless ", [
        for window in [max(7 * 24, 6 * each.value), each.value * (each.value < 24 ? 2 : 1) + 1] :
        "sum(increase(logging_googleapis_com:user_${replace(google_logging_metric.count["runs"].name, "/", "_")}{monitored_resource=\"cloud_run_job\",job_name=\"${each.key}\"}[${window}h])) > 0.5"
      ])
      duration            = "300s"
      evaluation_interval = "300s"
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject   = "${var.environment}: A job has not run"
    content   = local.texts["A job has not run"]
    mime_type = "text/markdown"
  }
}

# Cloud Run counts a task that did not end with 0; a run that ended so by itself has said it in a closing record. What is
# left has crashed, was killed, or never began to run. A task is tried once, so that the two counts go together.
resource "google_monitoring_alert_policy" "crash" {
  for_each = local.intervals

  display_name          = "A run ended without a word: ${each.key}"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.environment.alerts.channels

  conditions {
    display_name = each.key

    condition_prometheus_query_language {
      query = join(" ", [
        "(sum(increase(run_googleapis_com:job_completed_task_attempt_count{monitored_resource=\"cloud_run_job\",job_name=\"${each.key}\",result=\"failed\"}[${min(each.value + 1, 25)}h])) or vector(0))",
        "- (sum(increase(logging_googleapis_com:user_${replace(google_logging_metric.count["runs_ended_badly"].name, "/", "_")}{monitored_resource=\"cloud_run_job\",job_name=\"${each.key}\"}[${min(each.value + 1, 25)}h])) or vector(0))",
        "> 0.5",
      ])
      duration            = "600s" # the two counts do not arrive at once
      evaluation_interval = "60s"
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    subject   = "${var.environment}: A run ended without a word"
    content   = local.texts["A run ended without a word"]
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.needed]
}
