"""Starts the demo in an empty data folder, searches it over HTTP, and starts it again."""

import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

BINARY, ADDRESS = sys.argv[1], "127.0.0.1:7797"
FIRST_START_S, SECOND_START_S = 900, 60


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://{ADDRESS}{path}", data, timeout=60) as response:
        return json.load(response)


def start(data_dir, limit_s):
    process = subprocess.Popen([BINARY, "demo", "--listen", ADDRESS, "--data-dir", data_dir])
    started = time.monotonic()
    while time.monotonic() - started < limit_s:
        if process.poll() is not None:
            sys.exit(f"the demo ended with {process.returncode}")
        try:
            ask("/v1/info")
            print(f"answered after {time.monotonic() - started:.1f} s", flush=True)
            return process
        except (urllib.error.URLError, TimeoutError):
            # It listens from the start and answers when it is ready.
            time.sleep(0.05)
    process.kill()
    sys.exit(f"the demo was not ready after {limit_s} s")


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


def stop(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0, process.returncode


with tempfile.TemporaryDirectory() as data_dir:
    for limit_s in (FIRST_START_S, SECOND_START_S):
        server = start(data_dir, limit_s)
        try:
            check()
            stop(server)
        finally:
            server.kill()
