"""A real Apache Kafka (KRaft) on this machine, from Maven packages. Needs Java 17 or newer, Maven and openssl."""

import hashlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

import packages

sys.path.insert(0, str(packages.installed(".ci/kafka/client.lock")))

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

PASSWORD = "secret"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
LIMIT_S = 60
# Start fast, take little.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]


def until(what, holds, limit_s=LIMIT_S):
    """Waits until something holds, and returns it."""
    begun = time.monotonic()
    while not (held := holds()):
        assert time.monotonic() - begun < limit_s, f"waited in vain: {what() if callable(what) else what}"
        time.sleep(0.05)
    return held


def jars():
    """The folder of Kafka's jars: those of jars.lock, and no other bytes."""
    lock = (HERE / "jars.lock").read_text()
    folder = ROOT / "target" / f"kafka-{hashlib.sha256(lock.encode()).hexdigest()[:12]}"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        maven = ["mvn", "--batch-mode", "--quiet", "--file", HERE / "pom.xml", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        subprocess.run([*maven, f"-DoutputDirectory={unfinished}"], check=True)
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", HERE / "jars.lock"], cwd=unfinished, check=True)
        expected = {line.split()[1] for line in lock.splitlines()}
        assert {jar.name for jar in unfinished.iterdir()} == expected, "Maven brings other jars than jars.lock names"
        unfinished.rename(folder)
    return folder


def certificates(folder):
    """A CA, the broker's certificate, an expired one, and a CA that signed nothing."""
    folder.mkdir(parents=True)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    for name in ["ca", "wrong-ca"]:
        subject = ["-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"]
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "30", *subject)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=localhost")
    (folder / "extensions").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    (folder / "index").write_text("")
    (folder / "serial").write_text("01\n")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\nunique_subject=no\npolicy=p\n[p]\ncommonName=supplied\n"
    )
    for name, begin_day, end_day in [("broker", -1, 30), ("expired", -10, -1)]:
        dates = [time.strftime("%y%m%d%H%M%SZ", time.gmtime(time.time() + day * 86_400)) for day in (begin_day, end_day)]
        signing = ["ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-extfile", "extensions"]
        openssl(*signing, "-in", "broker.csr", "-out", f"{name}.pem", "-startdate", dates[0], "-enddate", dates[1])
        chain = [(folder / part).read_text() for part in ("broker.key", f"{name}.pem", "ca.pem")]
        (folder / f"{name}-keystore.pem").write_text("".join(chain))


class Cluster:
    """`with Cluster(folder, n_nodes):` each node is broker and controller. Everything listens on the loopback."""

    LISTENERS = ("PLAINTEXT", "CONTROLLER", "SSL", "SASL_SSL", "EXPIRED")

    def __init__(self, folder, n_nodes=1):
        self.folder, self.ids, self.processes = folder, range(1, n_nodes + 1), {}
        certificates(folder / "tls")
        sockets = {(listener, node): socket.create_server(("127.0.0.1", 0)) for listener in self.LISTENERS for node in self.ids}
        self.ports = {key: server.getsockname()[1] for key, server in sockets.items()}
        for server in sockets.values():
            server.close()
        self.classes = f"{folder}:{jars()}/*"
        (folder / "simplelogger.properties").write_text("org.slf4j.simpleLogger.defaultLogLevel=warn\n")

    def bootstrap(self, listener="PLAINTEXT"):
        return ",".join(f"127.0.0.1:{self.ports[listener, node]}" for node in self.ids)

    def properties(self, node):
        copies = min(len(self.ids), 3)
        addresses = {listener: f"{listener}://127.0.0.1:{self.ports[listener, node]}" for listener in self.LISTENERS}
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": ",".join(f"{other}@127.0.0.1:{self.ports['CONTROLLER', other]}" for other in self.ids),
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": ",".join(address for listener, address in addresses.items() if listener != "CONTROLLER"),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,EXPIRED:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.folder / "tls/broker-keystore.pem",
            "listener.name.expired.ssl.keystore.type": "PEM",
            "listener.name.expired.ssl.keystore.location": self.folder / "tls/expired-keystore.pem",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'org.apache.kafka.common.security.plain.PlainLoginModule required user_kindred="{PASSWORD}";',
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "log.dirs": self.folder / f"data{node}",
            "default.replication.factor": copies,
            "min.insync.replicas": max(1, copies - 1),
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 3,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(1, copies - 1),
            "transaction.state.log.num.partitions": 3,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            # Retention and compaction act within a second or two.
            "log.retention.check.interval.ms": 500,
            "log.cleaner.backoff.ms": 200,
            "log.segment.delete.delay.ms": 500,
            "log.initial.task.delay.ms": 500,
            "log.cleaner.dedupe.buffer.size": 16_777_216,
            "num.network.threads": 2,
            "num.io.threads": 2,
            "background.threads": 2,
            # A killed node is missed after two seconds.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
            "controller.quorum.election.timeout.ms": 1000,
            "controller.quorum.fetch.timeout.ms": 1500,
        }

    def __enter__(self):
        try:
            formats = []
            for node in self.ids:
                file = self.folder / f"node{node}.properties"
                file.write_text("".join(f"{name}={value}\n" for name, value in self.properties(node).items()))
                users = [f"--add-scram={mechanism}=[name=kindred,password={PASSWORD}]" for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
                command = [*JAVA, "-Xmx128m", "-cp", self.classes, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", file, *users]
                formats.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            for process in formats:
                assert process.wait(timeout=LIMIT_S) == 0, "a node's folder cannot be formatted"
            for node in self.ids:
                self.start(node)
            for node in self.ids:
                self.wait(node)
        except BaseException:
            self.__exit__()
            raise
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap()})
        return self

    def start(self, node):
        with open(self.folder / f"node{node}.log", "ab") as log:
            command = [*JAVA, "-Xms160m", "-Xmx320m", "-cp", self.classes, "kafka.Kafka", self.folder / f"node{node}.properties"]
            self.processes[node] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait(self, node):
        def listens():
            assert self.processes[node].poll() is None, (self.folder / f"node{node}.log").read_text()[-3000:]
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.ports["PLAINTEXT", node])) == 0

        until(f"node {node} listens", listens, 120)

    def kill(self, node):
        """Ends a node without warning."""
        os.kill(self.processes[node].pid, signal.SIGKILL)
        self.processes.pop(node).wait()

    def __exit__(self, *_):
        for node in list(self.processes):
            self.kill(node)

    def done(self, futures):
        for future in futures.values():
            future.result(LIMIT_S)


class Topic:
    """A topic, and what it should make of a collection."""

    N_VALUES = 0

    def __init__(self, cluster, name, n_partitions=1, **config):
        self.cluster, self.name = cluster, name
        self.config = {key.replace("_", "."): str(value) for key, value in config.items()}
        self.create(n_partitions)

    def create(self, n_partitions=1):
        new = NewTopic(self.name, n_partitions, config=self.config)
        self.cluster.done(self.cluster.admin.create_topics([new]))
        # By partition: offset, key, title (None: deleted).
        self.records = {}

    def delete(self):
        self.cluster.done(self.cluster.admin.delete_topics([self.name]))

    def recreate(self, n_partitions=1):
        """Deletes the topic and creates one of the same name."""
        self.delete()

        def created():
            try:
                self.create(n_partitions)
            except Exception as error:
                # The deletion is under way.
                assert "exist" in str(error) or "deletion" in str(error), error
                return False
            return True

        until(f"{self.name} can be created again", created)

    def grow(self, n_partitions):
        self.cluster.done(self.cluster.admin.create_partitions([NewPartitions(self.name, n_partitions)]))

    def delete_records(self, partition, before):
        self.cluster.done(self.cluster.admin.delete_records([TopicPartition(self.name, partition, before)]))

    def producer(self, **settings):
        return Producer({"bootstrap.servers": self.cluster.bootstrap(), "linger.ms": 2, "acks": "all", "message.timeout.ms": 60_000, **settings})

    def put(self, keys, partition=0, producer=None, counts=True):
        """Produces a new value for each key. `counts`: it becomes a document."""
        values = {}
        for key in keys:
            Topic.N_VALUES += 1
            values[key] = f"{self.name} {key} {Topic.N_VALUES}"
        self._produce(values, partition, producer, counts)

    def remove(self, keys, partition=0):
        self._produce(dict.fromkeys(keys), partition, None, True)

    def _produce(self, values, partition, producer, counts):
        own = producer or self.producer()

        def delivered(error, message):
            assert error is None, error
            key = message.key().decode()
            if counts:
                self.records.setdefault(partition, []).append((message.offset(), key, values[key]))

        for n, (key, title) in enumerate(values.items()):
            value = None if title is None else f'{{"title": "{title}", "embedding": {EMBEDDINGS[n % len(EMBEDDINGS)]}}}'
            own.produce(self.name, key=key, value=value, partition=partition, on_delivery=delivered)
            own.poll(0)
        assert own.flush(LIMIT_S) == 0, "not all records were acknowledged"

    def end(self, partition=0):
        """The offset after the last counted record."""
        return self.records[partition][-1][0] + 1

    def documents(self, is_read=lambda partition, offset: True):
        """Id and title of what a collection holds that has read these records; keys are of one partition each."""
        documents = {}
        for partition, records in self.records.items():
            for offset, key, title in sorted(records, key=lambda record: record[0]):
                if is_read(partition, offset):
                    documents[key] = title
        return {key: title for key, title in documents.items() if title is not None}


EMBEDDINGS = ["[" + ",".join(str((n * 31 + i * 17) % 97 - 48) for i in range(384)) + "]" for n in range(97)]
