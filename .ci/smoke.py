"""Starts the demo in an empty data folder, searches it over HTTP, and starts it again. Needs curl.

    smoke.py BINARY [FOLDER]     the demo is built in FOLDER and left there; without one, in a folder that is deleted
"""

import json
import os
import subprocess
import sys
import tempfile

from demo import ADDRESS, START_S, Demo, ask

BINARY = sys.argv[1]
SECOND_START_S = 60


def check():
    sizes = {c["name"]: c["n_documents"] for c in ask("/v1/collections")["collections"]}
    assert sizes["jobs"] >= 4000 and sizes["members"] >= 4000, sizes
    # Words and meaning both count: pipelayers come before plumbers, who come soon.
    for text, word in [("look after sick animals", "veterin"), ("fix leaking pipes", "plumb"), ("fly passenger planes", "pilot")]:
        hits = ask("/v1/collections/jobs/search", {"query": {"text": text}, "limit": 10})["hits"]
        titles = [hit["fields"]["title"] for hit in hits]
        print(f"{text!r}: {titles}", flush=True)
        assert any(word in title.lower() for title in titles), (text, titles)
    remote = {"must": [{"key": "remote", "match": {"value": True}}]}
    hits = ask("/v1/collections/jobs/search", {"query": {"text": "write software"}, "filter": remote, "limit": 20})["hits"]
    assert len(hits) == 20 and all(hit["fields"]["remote"] for hit in hits)
    hits = ask("/v1/match", {"from": {"collection": "members", "id": "m7"}, "to": "jobs", "limit": 3})["hits"]
    assert len(hits) == 3


def check_early_answers():
    """An answer that comes before a body was read arrives over HTTP/2, too: curl before 8 shows nothing of one that ends its stream so."""
    curl = ["curl", "--silent", "--http2-prior-knowledge", "--output", os.devnull, "--write-out", "%{http_code}", "--header", "Host: elsewhere.example"]
    asked = [*curl, "--data", json.dumps({"query": {"text": "x" * 4000}}), f"http://{ADDRESS}/v1/collections/jobs/search"]
    answers = [subprocess.run(asked, capture_output=True, text=True, check=False).stdout for _ in range(20)]
    assert answers == ["403"] * 20, answers


with tempfile.TemporaryDirectory() as empty:
    for limit_s in (START_S, SECOND_START_S):
        with Demo(BINARY, sys.argv[2] if len(sys.argv) > 2 else empty, limit_s):
            check()
            check_early_answers()
