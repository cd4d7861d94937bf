"""Compares the demo's answers with those that were recorded (.ci/golden.json): a change of the code that is not meant to change answers must not.

    golden.py BINARY FOLDER              FOLDER: the demo's data, as smoke.py leaves them (a copy is searched)
    golden.py BINARY FOLDER --record     writes the file anew, after a change that is meant to

Scores differ between processors in the last digits (int8 kernels), and with the day: postings are dated back from the day of the demo's first start, so
that recency does not differ. So a query's ten hits may swap places where scores are close, but not leave: nine of ten must be the same, and equal hits
must have scores within 0.02.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from demo import Demo, ask

BINARY, FOLDER = sys.argv[1:3]
FILE = Path(__file__).with_name("golden.json")
SAME, TOLERANCE = 9, 0.02
TEXTS = [
    "keep patients safe as a nurse on night shift",
    "look after sick animals",
    "write software that handles money",
    "fix leaking pipes",
    "teach mathematics to teenagers",
    "fly passenger planes",
    "jobs in the kitchen of a restaurant",
    "someone who can weld",
    "sell houses",
    "C++",
]
BODIES = [
    *[("/v1/collections/jobs/search", {"query": {"text": text}}) for text in TEXTS],
    *[("/v1/collections/members/search", {"query": {"text": text}}) for text in TEXTS[:3]],
    *[("/v1/collections/jobs/search", {"query": {"text": "work with data"}, "retrieval": by}) for by in ("dense", "lexical", "hybrid")],
    ("/v1/collections/jobs/search", {"query": {"text": "drive"}, "filter": {"must": [{"key": "seniority", "match": {"value": "senior"}}]}}),
    ("/v1/match", {"from": {"collection": "members", "id": "m7"}, "to": "jobs"}),
    ("/v1/match", {"from": {"collection": "jobs", "id": "j42"}, "to": "jobs"}),
]


def answers():
    """Of each body, ids and scores of ten hits."""
    found = []
    for path, body in BODIES:
        hits = ask(path, {**body, "limit": 10, "fields": []})["hits"]
        found.append({"ask": json.dumps(body), "hits": {hit["id"]: round(hit["score"], 4) for hit in hits}})
    return found


with tempfile.TemporaryDirectory() as work:
    shutil.copytree(FOLDER, work, dirs_exist_ok=True)
    with Demo(BINARY, work):
        now = answers()
if "--record" in sys.argv:
    FILE.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    sys.exit(print(f"{len(now)} answers recorded"))

recorded, wrong, n_equal = json.loads(FILE.read_text(encoding="utf-8")), [], 0
assert [answer["ask"] for answer in recorded] == [answer["ask"] for answer in now], "other queries were recorded: --record"
for before, after in zip(recorded, now, strict=True):
    n_equal += list(before["hits"].items()) == list(after["hits"].items())
    both = before["hits"].keys() & after["hits"].keys()
    far = {hit: (before["hits"][hit], after["hits"][hit]) for hit in both if abs(before["hits"][hit] - after["hits"][hit]) > TOLERANCE}
    if len(both) < min(SAME, len(before["hits"])) or far:
        wrong.append(f"{before['ask']}\n  recorded: {before['hits']}\n  now:      {after['hits']}\n  scores that differ: {far}")
print(f"{len(now)} answers, {n_equal} of them equal to the last digit")
sys.exit("\n".join(["answers changed:", *wrong]) if wrong else 0)
