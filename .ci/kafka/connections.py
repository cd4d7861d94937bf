"""TLS, SASL, and what is wrong with a connection: the reason must be the broker's own."""

import contextlib
import subprocess

from cluster import PASSWORD, Topic, until
from server import Server


def properties(prefix="", **values):
    return {f"kafka.properties.{prefix}{name.replace('_', '.')}": str(value) for name, value in values.items()}


def check(binary, folder, cluster, say):
    topic = Topic(cluster, "jobs-tls")
    topic.put([f"a{n}" for n in range(50)])
    tls, plain, sasl, expired = (cluster.bootstrap(listener) for listener in ("SSL", "PLAINTEXT", "SASL_SSL", "EXPIRED"))
    ca, wrong_ca = cluster.folder / "tls/ca.pem", cluster.folder / "tls/wrong-ca.pem"
    trusted = properties(security_protocol="ssl", ssl_ca_location=ca)

    def login(mechanism, password=PASSWORD):
        return properties(security_protocol="sasl_ssl", ssl_ca_location=ca, sasl_mechanism=mechanism, sasl_username="kindred", sasl_password=password)

    good = [
        ("TLS", tls, trusted),
        ("SASL PLAIN", sasl, login("PLAIN")),
        ("SCRAM-SHA-512", sasl, login("SCRAM-SHA-512")),
    ]
    # What the reason must contain, and the label of the metric.
    bad = [
        ("wrong CA", tls, properties(security_protocol="ssl", ssl_ca_location=wrong_ca), "certificate verify failed", "tls"),
        ("expired certificate", expired, trusted, "certificate verify failed", "tls"),
        ("TLS against plaintext", plain, trusted, "SSL handshake failed", "tls"),
        ("plaintext against TLS", tls, {}, "security.protocol", "connection"),
        ("wrong password", sasl, login("PLAIN", "wrong"), "Invalid username or password", "authentication"),
        ("wrong password (SCRAM)", sasl, login("SCRAM-SHA-512", "wrong"), "invalid credentials", "authentication"),
        ("no broker", "127.0.0.1:1", {}, "Connection refused", "connection"),
        ("bad name", "no-such-host.invalid:9092", {}, "no-such-host.invalid", "name"),
    ]
    for batch in (good, bad[:4], bad[4:]):
        with contextlib.ExitStack() as stack:
            servers = []
            for name, brokers, settings, *_ in batch:
                server = Server(binary, folder / name.replace(" ", "-"), brokers, {"jobs": topic.name}, **settings)
                servers.append(stack.enter_context(server))
            for server, (name, _, _, *expected) in zip(servers, batch, strict=True):
                if expected:
                    fails(server, name, *expected)
                else:
                    server.holds("jobs", topic.documents())
    say(f"connections that work: {', '.join(name for name, *_ in good)}; that name their fault: {', '.join(name for name, *_ in bad)}")
    files(binary, folder, cluster, tls)


def fails(server, name, word, label):
    """State, log and metric give the reason; the server serves on."""

    def shown():
        feed = server.feed("jobs")
        return word in feed.get("waiting_for", "") and word in feed.get("broker_error", "")

    until(lambda: f"{name}: {word!r} is named: {server.feed('jobs')}", shown)
    until(lambda: f"{name}: {word!r} is logged: {server.lines('jobs')}", lambda: any(word in line.get("reason", "") for line in server.lines("jobs", "WARN")))
    assert server.metric("kindred_kafka_connection_errors_total", reason=label) > 0, (name, server.feed("jobs"))
    assert server.status("/readyz") == 200 and not server.feed("jobs")["connected"], name
    assert len(server.lines("jobs")) <= 3, (name, server.lines("jobs"))
    assert "Kafka" in server.feed("jobs")["waiting_for"], server.feed("jobs")


def files(binary, folder, cluster, brokers):
    """A file that cannot be used ends the start, and is named."""
    (folder / "empty.pem").write_text("")
    (folder / "text.pem").write_text("no certificate")
    for file in (folder / "missing.pem", folder / "empty.pem", folder / "text.pem"):
        server = Server(binary, folder / "files", brokers, {"jobs": "jobs"}, **properties(security_protocol="ssl", ssl_ca_location=file))
        done = subprocess.run(server.command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode not in (0, None) and str(file) in done.stderr and "ssl.ca.location" in done.stderr, (file, done)
