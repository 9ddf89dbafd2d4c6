"""The command line: one file per job, settings in, one run, exit code out; no rule lives here."""

import sys
from pathlib import Path

import core

_beside = Path(__file__).parent.parent
_found = Path(next(iter(getattr(core, "__path__", [core.__file__ or ""]))))
if _found.parent.resolve() != _beside.resolve():
    print(f"leo-lifecycle: {_found} hides {_beside / 'core'}: take it off Python's path (PYTHONPATH)", file=sys.stderr)
    sys.exit(2)  # a usage error; what names the codes is hidden
