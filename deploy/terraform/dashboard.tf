# One page: did the runs happen, what did they do, what went wrong, how long did they take.

locals {
  charts = [
    { title = "Runs that ended, per hour", metric = "runs", by = ["job", "dry_run"], filter = "" },
    { title = "Runs with failures, per hour", metric = "runs_with_failures", by = ["job"], filter = "" },
    { title = "Runs after which something is above the maximum age", metric = "runs_over_age", by = ["job"], filter = "" },
    { title = "Candidates: due for deletion", metric = "runtimes", by = ["dry_run", "reason"], filter = "metric.label.action=\"delete\"" },
    { title = "Deletions accepted", metric = "runtimes", by = ["reason"], filter = "metric.label.outcome=\"deletion_accepted\"" },
    { title = "Kept, by reason", metric = "runtimes", by = ["job", "reason"], filter = "metric.label.outcome=\"kept\"" },
    { title = "Failed or in doubt", metric = "runtimes", by = ["job", "outcome"], filter = "metric.label.outcome=one_of(\"failed\",\"in_doubt\")" },
    { title = "Refusals", metric = "refusals", by = ["job", "guard"], filter = "" },
    { title = "Runs skipped", metric = "runs_skipped", by = ["job"], filter = "" },
    { title = "Autopause overdue", metric = "runtimes", by = ["dry_run"], filter = "metric.label.reason=\"autopause_overdue\"" },
    { title = "What became of deletions", metric = "confirmations", by = ["outcome"], filter = "" },
  ]

  histograms = [
    { title = "Age of the oldest, 95th percentile (s)", metric = "oldest" },
    { title = "How late deletions came, 95th percentile (s)", metric = "late" },
    { title = "Duration of a run, 95th percentile (s)", metric = "duration" },
    { title = "Runtimes listed, 95th percentile", metric = "listed" },
  ]

  tiles = concat(
    [
      for chart in local.charts : {
        title    = chart.title
        plotType = "STACKED_BAR"
        filter   = join(" AND ", compact(["metric.type=\"logging.googleapis.com/user/${google_logging_metric.count[chart.metric].name}\"", "resource.type=\"cloud_run_job\"", chart.filter]))
        aggregation = {
          alignmentPeriod    = "3600s"
          perSeriesAligner   = "ALIGN_DELTA"
          crossSeriesReducer = "REDUCE_SUM"
          groupByFields      = [for label in chart.by : "metric.label.${label}"]
        }
      }
    ],
    [
      for chart in local.histograms : {
        title    = chart.title
        plotType = "LINE"
        filter   = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.distribution[chart.metric].name}\" AND resource.type=\"cloud_run_job\""
        aggregation = {
          alignmentPeriod    = "3600s"
          perSeriesAligner   = "ALIGN_DELTA"
          crossSeriesReducer = "REDUCE_PERCENTILE_95"
          groupByFields      = ["metric.label.job", "metric.label.dry_run"]
        }
      }
    ],
  )
}

resource "google_monitoring_dashboard" "runs" {
  dashboard_json = jsonencode({
    displayName = "Runtime lifecycle, ${var.environment}"
    mosaicLayout = {
      columns = 12
      tiles = [
        for index, tile in local.tiles : {
          xPos   = 6 * (index % 2)
          yPos   = 4 * floor(index / 2)
          width  = 6
          height = 4
          widget = {
            title = tile.title
            xyChart = {
              dataSets = [
                {
                  plotType        = tile.plotType
                  timeSeriesQuery = { timeSeriesFilter = { filter = tile.filter, aggregation = tile.aggregation } }
                }
              ]
            }
          }
        }
      ]
    }
  })
}
