# What cron.yaml and the environment's files say, and what follows from them. No resource stands here, so that
# `terraform console` can show every value of an environment without a provider.

locals {
  root        = "${path.module}/../.."
  environment = yamldecode(file("${local.root}/deploy/environments/${var.environment}.yaml"))
  exemptions  = yamldecode(file("${local.root}/deploy/environments/${var.environment}.exemptions.yaml"))

  scheduled = {
    for entry in yamldecode(file("${local.root}/cron.yaml")).cron :
    entry.job => merge(entry, try(entry.environments[var.environment], {}))
    if !can(entry.environments[var.environment].skip)
  }

  # An execution's overrides can change arguments and variables, never the command: whoever may start only the
  # rehearsals can make nothing act.
  live = {
    for name, entry in local.scheduled :
    name => { command = "leo-lifecycle", args = concat([name], entry.args) }
  }
  rehearsals = {
    for name, entry in local.scheduled :
    "${name}-dry-run" => {
      command = "leo-lifecycle-dry-run"
      args    = [for arg in concat([name], entry.args) : arg if arg != "--no-dry-run"]
    }
  }

  audit_log = "projects/${local.environment.project}/logs/leo-lifecycle-audit"

  # Every setting as text, a list joined by commas: what the program reads from its variables.
  variables = merge(
    {
      for name, value in local.environment.settings :
      "LIFECYCLE_${upper(name)}" => try(join(",", value), tostring(value))
    },
    {
      LIFECYCLE_ENVIRONMENT     = var.environment
      LIFECYCLE_GOOGLE_PROJECT  = local.environment.project
      LIFECYCLE_GOOGLE_REGION   = local.environment.region
      LIFECYCLE_AUDIT_CLOUD_LOG = local.audit_log
      LIFECYCLE_EXEMPTIONS      = jsonencode(local.exemptions)
      LIFECYCLE_OUTPUT          = "json"
    },
  )

  # The program ends by itself at its deadline and writes its closing record; this is the stop behind it.
  task_timeout = "${(tonumber(trimsuffix(local.environment.settings.deadline, "m")) + 2) * 60}s"

  # What an alert says is the section of the runbook with its name, for this environment: its commands can be pasted. It
  # links to no other section, since an alert has none.
  runbook = {
    for section in split("\n### ", file("${local.root}/deploy/RUNBOOK.md")) :
    split("\n", section)[0] => replace(replace(replace(replace(
      trimspace(split("\n## ", section)[0]),
      "/\\bENV\\b/", var.environment),
      "/\\bREGION\\b/", local.environment.region),
      "/\\bP\\b/", local.environment.project),
    "/\\[([^]]*)\\]\\(#[^)]*\\)/", "\"$1\"")
  }
}
