"""Asks the README's first search of the demo and compares the answer with what the README shows.

    first_search.py BINARY FOLDER     FOLDER: the demo's data, as smoke.py leaves them (a copy is searched)

The score may differ from the README's by what recency adds or takes away; ids and fields must be the same.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from demo import Demo, ask

BINARY, FOLDER = sys.argv[1:3]
README = Path(__file__).resolve().parent.parent / "README.md"
TOLERANCE = 0.02

command, answer = re.search(r"^```console\n\$ curl ([^\n]*)\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S).groups()
path, body = re.fullmatch(r"-s localhost:\d+(\S+) -d '(.*)'", command).groups()
expected = json.loads(answer)

with tempfile.TemporaryDirectory() as work:
    shutil.copytree(FOLDER, work, dirs_exist_ok=True)
    with Demo(BINARY, work):
        actual = ask(path, json.loads(body))
        model = ask("/v1/info")["model"]
print(f"queries in {model['query_precision']}, {model['int8_closeness']}")
assert model["query_precision"] == "int8" and "warning" not in model, model
assert len(actual["hits"]) == len(expected["hits"]) > 0, actual
for found, shown in zip(actual["hits"], expected["hits"], strict=True):
    print(f"{found['id']} {found['score']:.4f}, in the README {shown['id']} {shown['score']:.4f}: {found['fields']}")
    assert (found["id"], found["fields"]) == (shown["id"], shown["fields"]), f"the README shows {shown}"
    assert abs(found["score"] - shown["score"]) <= TOLERANCE, f"the README shows {shown}"
