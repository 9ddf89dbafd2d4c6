# Who may do what; deploy/README.md says what each could do at worst. Only deployers may change a job, its image or its
# variables, by this module.

locals {
  on_call   = "group:${local.environment.accounts.on_call}"
  approvers = "group:${local.environment.accounts.approvers}"
  deployers = "group:${local.environment.accounts.deployers}"

  # What a plan reads and an apply changes. Whoever may set policies and act as the runner is an owner in all but name.
  deployer_roles = [
    "roles/artifactregistry.writer",
    "roles/cloudscheduler.admin",
    "roles/iam.roleAdmin",
    "roles/iam.serviceAccountAdmin",
    "roles/iam.serviceAccountUser",
    "roles/logging.configWriter",
    "roles/monitoring.editor",
    "roles/resourcemanager.projectIamAdmin",
    "roles/run.admin",
    "roles/serviceusage.serviceUsageAdmin",
    "roles/storage.admin",
  ]

  roles = {
    runner = {
      title = "Leo lifecycle: run the jobs"
      permissions = [
        "logging.logEntries.create", # its records
        "logging.logEntries.list",   # plans, and the deletions to confirm
        "run.executions.get",        # is an older run still alive?
        "run.executions.list",
      ]
    }
    observer = {
      title = "Leo lifecycle: look at runs, pause schedules"
      permissions = [
        "cloudscheduler.jobs.get",
        "cloudscheduler.jobs.list",
        "cloudscheduler.jobs.pause",
        "run.executions.get",
        "run.executions.list",
        "run.jobs.get",
        "run.jobs.list",
        "run.operations.get",
        "run.tasks.get",
        "run.tasks.list",
        "serviceusage.services.use", # the project as the quota project of a person's own credentials
      ]
    }
    resumer = {
      title       = "Leo lifecycle: resume schedules"
      permissions = ["cloudscheduler.jobs.enable"]
    }
    starter = {
      title = "Leo lifecycle: start a job with other arguments, and cancel it"
      permissions = [
        "run.executions.cancel",
        "run.executions.get",
        "run.executions.list",
        "run.jobs.get",
        "run.jobs.run",
        "run.jobs.runWithOverrides",
      ]
    }
    stopper = {
      title       = "Leo lifecycle: cancel a run"
      permissions = ["run.executions.cancel"]
    }
  }
}

resource "google_service_account" "account" {
  for_each = {
    runner    = "Runs the lifecycle jobs; a user of Leonardo"
    scheduler = "Starts the lifecycle jobs on schedule"
  }

  account_id   = split("@", local.environment.accounts[each.key])[0]
  display_name = each.value

  lifecycle {
    precondition {
      condition     = length(local.scheduled) > 0
      error_message = "cron.yaml schedules nothing in ${var.environment}: there is nothing to deploy."
    }

    # Leonardo knows the runner by what Google made once: an account of the same name is another one.
    prevent_destroy = true
  }

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "role" {
  for_each = local.roles

  role_id     = "leo_lifecycle_${each.key}"
  title       = each.value.title
  permissions = each.value.permissions

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "runner" {
  project = local.environment.project
  role    = google_project_iam_custom_role.role["runner"].id
  member  = google_service_account.account["runner"].member
}

# Cloud Scheduler knows no grant on a single schedule: whoever may pause these may pause every schedule of the project.
resource "google_project_iam_member" "observer" {
  for_each = toset([local.on_call, local.approvers])

  project = local.environment.project
  role    = google_project_iam_custom_role.role["observer"].id
  member  = each.key
}

resource "google_project_iam_member" "resumer" {
  project = local.environment.project
  role    = google_project_iam_custom_role.role["resumer"].id
  member  = local.approvers
}

resource "google_project_iam_member" "viewer" {
  for_each = {
    for pair in setproduct(["roles/logging.viewer", "roles/monitoring.snoozeEditor", "roles/monitoring.viewer"], [local.on_call, local.approvers]) :
    join(" ", pair) => { role = pair[0], member = pair[1] }
  }

  project = local.environment.project
  role    = each.value.role
  member  = each.value.member
}

resource "google_project_iam_member" "deployer" {
  for_each = toset(local.deployer_roles)

  project = local.environment.project
  role    = each.key
  member  = local.deployers
}

resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  for_each = local.live

  name     = google_cloud_run_v2_job.job[each.key].name
  location = local.environment.region
  role     = "roles/run.invoker"
  member   = google_service_account.account["scheduler"].member
}

resource "google_cloud_run_v2_job_iam_member" "rehearsal" {
  for_each = {
    for pair in setproduct(keys(local.rehearsals), [local.on_call, local.approvers]) :
    join(" ", pair) => { job = pair[0], member = pair[1] }
  }

  name     = google_cloud_run_v2_job.job[each.value.job].name
  location = local.environment.region
  role     = google_project_iam_custom_role.role["starter"].id
  member   = each.value.member
}

resource "google_cloud_run_v2_job_iam_member" "live" {
  for_each = local.live

  name     = google_cloud_run_v2_job.job[each.key].name
  location = local.environment.region
  role     = google_project_iam_custom_role.role["starter"].id
  member   = local.approvers
}

resource "google_cloud_run_v2_job_iam_member" "stop" {
  for_each = local.live

  name     = google_cloud_run_v2_job.job[each.key].name
  location = local.environment.region
  role     = google_project_iam_custom_role.role["stopper"].id
  member   = local.on_call
}
