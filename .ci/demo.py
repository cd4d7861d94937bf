"""The demo as a server to talk with: started in a data folder, asked over HTTP, ended as a user ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request


def free_port():
    """A port that nobody has, so that nobody else's server is asked."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


ADDRESS = f"127.0.0.1:{free_port()}"
START_S = 900


def ask(path, body=None, method=None):
    """The JSON answer to a GET or, with a body, to a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ADDRESS}{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


class Demo:
    """`with Demo(binary, data_dir, limit_s):` it answers within so many seconds, and ends cleanly afterwards. `settings` as in its environment."""

    def __init__(self, binary, data_dir, limit_s=START_S, **settings):
        self.command, self.limit_s = [binary, "demo", "--listen", ADDRESS, "--data-dir", data_dir], limit_s
        self.environment = {**os.environ, **settings}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.environment)
        started = time.monotonic()
        while time.monotonic() - started < self.limit_s:
            if self.process.poll() is not None:
                sys.exit(f"the demo ended with {self.process.returncode}")
            try:
                ask("/readyz")
                print(f"answered after {time.monotonic() - started:.1f} s", flush=True)
                return self
            except (urllib.error.URLError, TimeoutError):
                # It listens from the start and answers when it is ready.
                time.sleep(0.05)
        self.process.kill()
        sys.exit(f"the demo was not ready after {self.limit_s} s")

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.process.send_signal(signal.SIGTERM)
                assert self.process.wait(timeout=30) == 0, self.process.returncode
        finally:
            self.process.kill()
