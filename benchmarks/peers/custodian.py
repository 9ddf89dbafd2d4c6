"""Cloud Custodian as it is, without credentials and with Google's APIs elsewhere; run by the peers' own Python.

It has no Leonardo resource, and cannot delete notebooks: instances of Compute Engine stand in for runtimes.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import google.auth
from c7n.cli import main
from google.auth.credentials import AnonymousCredentials
from googleapiclient import discovery

POLICY = {
    "name": "old",
    "resource": "gcp.instance",
    "filters": [{"type": "value", "key": "creationTimestamp", "op": "greater-than", "value_type": "age", "value": 14}],
    "actions": ["delete"],
}

if __name__ == "__main__":
    os.environ["CLOUDSDK_CORE_PROJECT"] = "bench"
    google.auth.default = lambda *_, **__: (AnonymousCredentials(), "bench")
    discovery.build = partial(discovery.build, client_options={"api_endpoint": sys.argv[1]})
    with TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.json"
        policy.write_text(json.dumps({"policies": [POLICY]}))
        sys.argv = ["custodian", "run", "--output-dir", folder, "--cache-period", "0", str(policy)]
        main()
