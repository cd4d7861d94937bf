"""Kindred as it is started, asked and ended."""

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from cluster import ROOT, until


class Server:
    """`with Server(binary, folder, brokers, topics):` `topics` names the topic of each collection; `settings` are others."""

    def __init__(self, binary, folder, brokers, topics, **settings):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.topics, self.log = topics, folder.with_suffix(".log")
        topics = {"jobs": "", "members": "", **topics}
        settings = {"kafka.brokers": brokers, "log.format": "json", **{f"kafka.topics.{c}": topic for c, topic in topics.items()}, **settings}
        flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={json.dumps(value)}")]
        self.command = [binary, "serve", "--listen", self.address, "--data-dir", folder, *flags]
        self.process = None

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()

    def begin(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=log, stderr=log)

        def listens():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return self.status("/livez") == 200 and self.status("/v1/collections") == 200

        until("the server answers", listens, 120)

    def end(self, number=signal.SIGTERM):
        os.kill(self.process.pid, number)
        assert self.process.wait(timeout=30) == (0 if number == signal.SIGTERM else -number)
        self.process = None

    def ask(self, path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def status(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=60) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            return None

    def define(self, collection):
        self.ask(f"/v1/collections/{collection}", {"template": "{title}", "fields": {"title": {"type": "text"}}}, "PUT")

    def feed(self, collection):
        return next(feed for feed in self.ask("/v1/feeds")["feeds"] if feed["collection"] == collection)

    def warnings(self, collection):
        return [warning["kind"] for warning in self.feed(collection).get("warnings", [])]

    def documents(self, collection):
        """Id and title of every document."""
        documents, offset = {}, None
        while True:
            page = {"limit": 10_000, "with_payload": True, **({"offset": offset} if offset is not None else {})}
            result = self.ask(f"/collections/{collection}/points/scroll", page)["result"]
            documents.update((str(point["id"]), point["payload"]["title"]) for point in result["points"])
            if (offset := result.get("next_page_offset")) is None:
                return documents

    def metric(self, name, **labels):
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=60) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(f"{name}{{") and all(f'{label}="{value}"' in line for label, value in labels.items()):
                    return float(line.rsplit(" ", 1)[1])
        return None

    def lines(self, collection=None, level=None):
        """The feed's log lines, parsed."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        lines = [{**line, **line.pop("fields", {})} for line in lines]
        lines = [line for line in lines if "kafka" in line.get("target", "")]
        return [line for line in lines if collection in (None, line.get("collection")) and level in (None, line["level"])]

    def holds(self, collection, expected):
        """Waits until a collection has caught up and has exactly these documents."""

        def reason():
            feed, documents = self.feed(collection), self.documents(collection)
            return f"{collection} has everything: {feed}; {differences(documents, expected)}"

        until(reason, lambda: self.feed(collection)["caught_up"] and self.documents(collection) == expected)
        feed = self.feed(collection)
        assert feed["connected"] and "waiting_for" not in feed, feed


def differences(documents, expected):
    missing, ghosts = expected.keys() - documents.keys(), documents.keys() - expected.keys()
    other = [key for key in expected.keys() & documents.keys() if expected[key] != documents[key]]
    shown = [sorted(keys)[:3] for keys in (missing, ghosts, other)]
    return f"{len(missing)} are missing, {len(ghosts)} should not be there, {len(other)} differ, such as {shown}"
