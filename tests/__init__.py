"""The tests: one file per module, against the real parts."""

import os

FIRST_WORKER = "gw0"
IMPORTS_ARE_MEASURED = os.environ.get("PYTEST_XDIST_WORKER", FIRST_WORKER) == FIRST_WORKER
"""They take twice the time where coverage is, and in each worker they are the same."""

if not IMPORTS_ARE_MEASURED:
    from coverage import Coverage

    if measured := Coverage.current():
        measured.stop()
