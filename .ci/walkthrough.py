"""Runs the commands of docs/walkthrough.md as they stand there, and holds what they print against what it says.

    walkthrough.py BINARY FOLDER     FOLDER holds the demo, as smoke.py leaves it; it is changed

`…` in the page stands for anything. Ports are other ones, so that nobody else's server is asked.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from demo import free_port

BINARY, DEMO = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 120


PORTS = {"7700": free_port(), "7701": free_port()}


def steps(page):
    """Each command with the lines that it is to print."""
    for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S):
        for step in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, expected = step.partition("\n")
            yield command, expected


def with_ports(text):
    for told, own in PORTS.items():
        text = text.replace(told, own)
    return text


def start(command, environment, servers):
    # The demo is there already; elsewhere the page's own port is the one by default.
    command = command.removesuffix("&").replace("kindred demo", f"kindred demo --listen 127.0.0.1:{PORTS['7700']} --data-dir {DEMO}")
    servers.append(subprocess.Popen(["bash", "-c", "exec " + command], env=environment, cwd=environment["HERE"]))
    address = re.search(r"--listen (\S+)", command)[1]
    started = time.monotonic()
    while True:
        try:
            return urllib.request.urlopen(f"http://{address}/readyz", timeout=5).read()
        except OSError:
            assert servers[-1].poll() is None and time.monotonic() - started < LIMIT_S, f"{command}: is not ready"
            time.sleep(0.05)


def run(command, expected, environment):
    done = subprocess.run(
        ["bash", "-c", command], env=environment, cwd=environment["HERE"], text=True, timeout=LIMIT_S, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    pattern = ".*".join(re.escape(part) for part in " ".join(expected.split()).split("…"))
    printed = " ".join(done.stdout.split())
    assert re.fullmatch(pattern, printed, re.S), f"\n$ {command}\nsays\n{done.stdout}\nand not\n{expected}"


with tempfile.TemporaryDirectory() as here:
    os.symlink(BINARY, Path(here, "kindred"))
    os.symlink(ROOT / "models", Path(here, "models"))
    environment = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "HERE": here, "NO_COLOR": "1"}
    # Where a command names no folder, it is the demo's.
    os.symlink(DEMO, Path(here, "index_data"))
    servers, n = [], 0
    try:
        for command, expected in steps((ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")):
            command, expected, n = with_ports(command), with_ports(expected), n + 1
            print("$", command, flush=True)
            if command.endswith("&"):
                start(command, environment, servers)
            else:
                run(command, expected, environment)
        for server in servers:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=30) == 0, server.args
    finally:
        for server in servers:
            server.kill()
assert n > 15, "the page has no commands any more"
print(f"{n} commands do what the page says")
