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
"""


def reference() -> str:
    """All of it, as Markdown."""
    groups = group_by_subject(Settings.model_fields)
    tables = (f"## {group}: {GROUPS[group][0]}\n\n{_table(names)}" for group, names in groups.items())
    return "\n".join((INTRODUCTION, *tables, EXEMPTIONS))


def _table(names: list[str]) -> str:
    rows = (
        f"| `{name.replace('_', '-')}` | {default_text(info)} | {info.description} |\n"
        for name in names
        for info in [Settings.model_fields[name]]
    )
    return "| setting | default | meaning |\n|---|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(reference())
