"""Writes the reference of all settings, `README.md` beside this module, from their definitions in `fields`."""

import sys

from core.settings.faults import PREFIX
from core.settings.fields import Settings
from core.settings.flags import GROUPS, default_text, group_by_subject
from core.settings.pins import FLAG

INTRODUCTION = f"""\
# Settings

Each is a flag (`--max-age 14d`), a variable (`{PREFIX}MAX_AGE=14d`) and a key of the `--config` file (`max_age: 14d`),
in this order of precedence. A setting that is unknown, malformed or contradicts another stops the program before
anything is called. `--show-config` prints the settings of a job as a config file with the origin of each value, even
where the job's other arguments are missing. No setting is ever a secret.

`{FLAG} NAME=VALUE` before the job's name holds a setting to one value: where anything else says otherwise, the exit
code is 2. `leo-lifecycle-dry-run` is `leo-lifecycle {FLAG} dry-run=yes`.

`leo-lifecycle JOB --help` shows the settings of a job in these groups.
"""
EXEMPTIONS = """\
## Exemptions

`exemptions` names a YAML file, or is the same as inline JSON: a list of entries. All fields under `match` must match;
they are case-sensitive globs.

```yaml
- match: {project: "terra-workshop-*", label: "purpose=teaching*"}   # also: name, creator
  until: 2026-12-01          # exclusive; a bare date is 00:00Z; at most 180 days ahead
  reason: genomics workshop
```

An exemption that has not lapsed and matches nothing of the whole fleet is said (`exemption_unused`).
"""
CASES = """\
## Cases

What a policy and its exemptions are to decide can be written down, a runtime a line, and
`leo-lifecycle delete-old-runtimes --cases FILE` says where they decide otherwise (exit code 1); nobody is asked.
`ENV.cases.yaml` is judged by the `ENV.yaml` and `ENV.exemptions.yaml` beside it, as `make test` does for each
environment; flags stand above them, so that `--max-age 10d` shows what that would change.

```yaml
- {keep: within_policy, runtime: terra-1/a, age: 14d}                          # in use, unless idle is given
- {delete: max_age_if_idle, runtime: terra-1/a, age: P7DT1S, idle: 4h, status: Stopped}
- {keep: exempt, runtime: terra-workshop-1/a, age: 90d, at: 2026-11-30}        # where an exemption matches, say when
- {delete: max_age, runtime: terra-workshop-1/a, age: 90d, at: 2026-12-01}
```

`keep` or `delete` names the reason, age and idle are durations; besides there are `creator`, `labels`, `cloud` and
`autopause` (its threshold, 30m).
"""


def reference() -> str:
    """All of it, as Markdown."""
    groups = group_by_subject(Settings.model_fields)
    tables = (f"## {group}: {GROUPS[group][0]}\n\n{_table(names)}" for group, names in groups.items())
    return "\n".join((INTRODUCTION, *tables, EXEMPTIONS, CASES))


def _table(names: list[str]) -> str:
    rows = (
        f"| `{name.replace('_', '-')}` | {default_text(info)} | {info.description} |\n"
        for name in names
        for info in [Settings.model_fields[name]]
    )
    return "| setting | default | meaning |\n|---|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(reference())
