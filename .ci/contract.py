"""Holds the server against its own description: requests made from /openapi.json, sound and unsound, get answers that it describes, and never an
error of the server.

    contract.py BINARY [FOLDER]     FOLDER: a data folder of the demo, which is changed; without one, the demo is built
"""

import os
import subprocess
import sys
import tempfile

from demo import ADDRESS, START_S, Demo
from packages import installed

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Snapshots are written wherever the request says; the events of a task end with the task.
LEFT_OUT = "^/v1/snapshots$|/events$"

with tempfile.TemporaryDirectory() as empty, Demo(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else empty, START_S):
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run", f"http://{ADDRESS}/openapi.json"]
    command += ["--checks", CHECKS, "--exclude-path-regex", LEFT_OUT, "--phases", "examples,fuzzing", "--max-examples", "25", "--seed", "1"]
    command += ["--request-timeout", "60", "--generation-database", "none", "--warnings", "off"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(installed(".ci/contract.lock"))}, cwd=empty, check=False)
sys.exit(done.returncode)
