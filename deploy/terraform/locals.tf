# What cron.yaml and the environment's files say, and what follows from them. No resource stands here, so that
# `terraform console` can show every value of an environment without a provider.

locals {
  root        = "${path.module}/../.."
  environment = yamldecode(file("${local.root}/deploy/environments/${var.environment}.yaml"))

  scheduled = {
    for entry in yamldecode(file("${local.root}/cron.yaml")).cron :
    entry.job => merge(entry, try(entry.environments[var.environment], {}))
    if !can(entry.environments[var.environment].skip)
  }

  # An execution's overrides can change arguments and variables, never the command. So the command holds what must stay
  # true whoever starts it: where Leonardo is and who asks it, where records and notices go, and for a rehearsal, that nothing acts.
  # What is pinned is checked before anything is called; -I and the pinned address keep variables of Python and of
  # libraries out. The arguments hold the rest.
  pins = [
    "leonardo-url=${local.environment.settings.leonardo_url}",
    "auth=${try(local.environment.settings.auth, "google")}",
    "impersonate-service-account=${try(local.environment.settings.impersonate_service_account, "")}",
    "audit-cloud-log=${local.audit_log}",
    "environment=${var.environment}",
    "notice-url=${try(local.environment.settings.notice_url, "")}",
    "google-emulator=",
  ]
  program = concat(["/opt/leo-lifecycle/bin/python", "-I", "-m", "jobs"], flatten([for pin in local.pins : ["--pin", pin]]))

  live = {
    for name, entry in local.scheduled :
    name => { command = concat(local.program, [name, "--config", "${local.mounted_at}/config.yaml"]), args = entry.args }
  }
  rehearsals = {
    for name, entry in local.scheduled :
    "${name}-dry-run" => {
      command = concat(local.program, ["--pin", "dry-run=yes", name, "--config", "${local.mounted_at}/config.yaml"])
      args    = [for arg in entry.args : arg if arg != "--no-dry-run"]
    }
  }

  audit_log = "projects/${local.environment.project}/logs/leo-lifecycle-audit"

  # What the program reads at its start, as files: a variable takes 32 KiB, and a list of projects can be longer. They change
  # without a new image. Terraform does not look into the list: decoding 100,000 names takes it a minute.
  written = "${local.root}/deploy/environments/${var.environment}"
  listed  = fileexists("${local.written}.projects.txt")
  config = merge(
    local.environment.settings,
    local.listed ? { projects_file = "${local.mounted_at}/projects.txt" } : {},
    {
      google_project = local.environment.project
      google_region  = local.environment.region
      exemptions     = "${local.mounted_at}/exemptions.yaml"
      output         = "json"
    },
  )
  files = merge(
    { "config.yaml" = yamlencode(local.config), "exemptions.yaml" = file("${local.written}.exemptions.yaml") },
    local.listed ? { "projects.txt" = file("${local.written}.projects.txt") } : {},
  )
  mounted_at = "/settings"

  # The program ends by itself at its deadline and writes its closing record; this is the stop behind it.
  task_timeout = "${(tonumber(trimsuffix(local.environment.settings.deadline, "m")) + 2) * 60}s"

  max_age_s = tonumber(trimsuffix(try(local.environment.settings.max_age, "14d"), "d")) * 24 * 60 * 60

  # What an alert says is the section of the runbook with its name, for this environment: its commands can be pasted. It
  # links to no other section, since an alert has none, and has no drill.
  runbook = {
    for section in split("\n### ", file("${local.root}/deploy/RUNBOOK.md")) :
    split("\n", section)[0] => replace(replace(replace(replace(
      trimspace(replace(split("\n## ", section)[0], "/(?s)\n<details>.*?</details>\n/", "")),
      "/\\bENV\\b/", var.environment),
      "/\\bREGION\\b/", local.environment.region),
      "/\\bP\\b/", local.environment.project),
    "/\\[([^]]*)\\]\\(#[^)]*\\)/", "\"$1\"")
  }
}
