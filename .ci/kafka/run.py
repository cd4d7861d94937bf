"""The Kafka feed on a real Kafka: what retention, compaction, transactions, deleted topics, killed brokers, TLS and SASL do to it.
Each scenario compares the documents one by one with what was produced.

    run.py BINARY [FOLDER]     BINARY is Kindred with TLS (--features full); logs and data stay in FOLDER, if it is given
"""

import contextlib
import pathlib
import signal
import sys
import tempfile
import time

import connections
from cluster import Cluster, Topic, until
from server import Server

BEGUN = time.monotonic()


def keys(prefix, n, begin=0):
    return [f"{prefix}{i}" for i in range(begin, begin + n)]


def say(what):
    print(f"{time.monotonic() - BEGUN:6.1f} s  {what}", flush=True)


class OneNode:
    """One broker, one server, and a collection for each scenario."""

    COLLECTIONS = ("jobs", "retained", "idle", "paused", "longer", "shorter", "equal", "live", "deletions", "kept", "grown", "transactions")

    def __init__(self, binary, folder, cluster):
        self.cluster, self.folder, self.binary = cluster, folder, binary
        new = Topic
        self.topics = {
            "jobs": new(cluster, "jobs"),
            "retained": new(cluster, "retained"),
            "idle": new(cluster, "idle", 3),
            "paused": new(cluster, "paused"),
            "longer": new(cluster, "longer"),
            "shorter": new(cluster, "shorter"),
            "equal": new(cluster, "equal"),
            "live": new(cluster, "live", 2),
            # Segments end, and are compacted, within a second.
            "deletions": new(cluster, "deletions", cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.01, delete_retention_ms=5000),
            "kept": new(cluster, "kept", cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.01),
            "grown": new(cluster, "grown", 2),
            "transactions": new(cluster, "transactions"),
        }
        # What lies in the topics before they are first read is nobody's loss.
        self.topics["jobs"].put(keys("old", 20))
        self.topics["jobs"].delete_records(0, 20)
        self.topics["jobs"].records = {}
        for topic in self.topics.values():
            topic.put(keys("a", 300))
        self.server = Server(binary, folder / "data", cluster.bootstrap(), {name: name for name in self.COLLECTIONS})

    def all_hold(self, *names):
        for name in names or self.COLLECTIONS:
            self.server.holds(name, self.topics[name].documents())

    def run(self):
        with self.server as server:
            for name in self.COLLECTIONS[1:]:
                server.define(name)
            self.all_hold()
            assert not any(server.warnings(name) for name in self.COLLECTIONS), server.ask("/v1/feeds")
            say("one node: all topics are read")
            self.grows()
            self.transactions()
            self.recreated_live()
            self.lost_while_paused()
            self.broker_returns()
            self.killed()
            self.while_down()
            self.gaps_and_readiness()
            self.replay()

    def grows(self):
        topic, server = self.topics["grown"], self.server
        topic.grow(4)
        for partition in (2, 3):
            topic.put(keys(f"p{partition}-", 400), partition)
        self.all_hold("grown")
        assert server.feed("grown")["lag_records"] == 0 and not server.warnings("grown")
        say("added partitions are read from their first records")

    def transactions(self):
        topic, server = self.topics["transactions"], self.server
        producer = topic.producer(**{"transactional.id": "t"})
        producer.init_transactions(30)
        producer.begin_transaction()
        topic.put(keys("aborted", 70), producer=producer, counts=False)
        producer.flush()
        until("an open transaction is lag", lambda: server.feed("transactions").get("lag_records") == 70)
        assert not server.feed("transactions")["caught_up"]
        assert server.metric("kindred_kafka_caught_up", collection="transactions") == 0
        producer.abort_transaction()
        self.all_hold("transactions")
        producer.begin_transaction()
        topic.put(keys("committed", 50), producer=producer)
        producer.flush()
        until("an open transaction is lag", lambda: server.feed("transactions").get("lag_records") == 50)
        producer.commit_transaction()
        self.all_hold("transactions")
        # Its markers may go without a loss: the feed has passed them.
        until("the feed keeps that it passed the markers", lambda: server.feed("transactions").get("lag_records") == 0)
        say("aborted, open and committed transactions")

    def recreated_live(self):
        topic, server = self.topics["live"], self.server
        before = topic.documents()
        topic.recreate(2)
        topic.put(keys("b", 700))
        topic.put(keys("other", 10), 1)
        server.holds("live", {**before, **topic.documents()})
        assert server.warnings("live") == ["topic_replaced"]
        assert [line["message"] for line in server.lines("live", "ERROR") if "created again" in line["message"]]
        say("a topic that is deleted and created again while it is read is read from its beginning")

    def lost_while_paused(self):
        topic, server = self.topics["paused"], self.server
        read = topic.end()
        server.process.send_signal(signal.SIGSTOP)
        # The broker answers the request that is under way, with nothing.
        time.sleep(1)
        try:
            topic.put(keys("a", 200, 150))
            topic.delete_records(0, 400)
        finally:
            server.process.send_signal(signal.SIGCONT)
        server.holds("paused", topic.documents(lambda _, offset: offset < read or offset >= 400))
        self.has_lost("paused", {0: 400 - read})
        say("records that delete_records takes from a running feed are reported")

    def has_lost(self, name, lost):
        """The log, the state and the metrics name the lost offsets of each partition."""
        lines = [line for line in self.server.lines(name, "ERROR") if "n_offsets" in line]
        assert {line["partition"]: line["n_offsets"] for line in lines} == lost, lines
        warning = next(warning for warning in self.server.feed(name)["warnings"] if warning["kind"] == "records_lost")
        for partition, n in lost.items():
            assert f"{n} offsets of partition {partition}" in warning["message"], warning
            assert self.server.metric("kindred_kafka_lost_offsets", collection=name, partition=partition) == n
        at = self.server.metric("kindred_kafka_warning_timestamp_seconds", collection=name, kind="records_lost")
        assert abs(at - time.time()) < 300, at
        assert self.server.status("/readyz") == 200

    def broker_returns(self):
        """A killed broker: a few lines for each feed, not a storm."""
        server, before = self.server, len(self.server.lines())
        for _ in range(2):
            self.cluster.kill(1)
            until("the feeds notice", lambda: all(not feed["connected"] and "refused" in feed.get("waiting_for", "") for feed in server.ask("/v1/feeds")["feeds"]))
            assert server.metric("kindred_kafka_connection_errors_total", collection="jobs", reason="connection") > 0
            assert server.status("/readyz") == 200
            self.cluster.start(1)
            self.cluster.wait(1)
            self.topics["jobs"].put(keys("after", 50))
            self.topics["idle"].put(keys("after", 50), 0)
            until("all feeds go on", lambda: all(feed["caught_up"] for feed in server.ask("/v1/feeds")["feeds"]))
            self.all_hold("jobs", "idle", "grown", "transactions")
        lines = server.lines()[before:]
        for name in self.COLLECTIONS:
            of_feed = [line for line in lines if line.get("collection", line.get("topic")) == name]
            assert 4 <= len(of_feed) <= 12, (name, of_feed)
        say(f"a broker is killed and returns, twice: {len(lines) / len(self.COLLECTIONS):.1f} lines for each feed")

    def killed(self):
        """kill -9 of the server amid a feed."""
        topic, server = self.topics["transactions"], self.server
        for round_ in range(2):
            topic.put(keys("a", 1000, round_ * 500))
            server.end(signal.SIGKILL)
            server.begin()
        self.all_hold("transactions")
        say("a killed server goes on")

    def while_down(self):
        server, topics = self.server, self.topics
        self.all_hold("grown", "jobs", "idle", "deletions", "kept", "transactions")
        read = topics["jobs"].end()
        server.end()
        # Retention and delete_records take what was not read.
        topics["jobs"].put(keys("a", 200, 200))
        topics["jobs"].delete_records(0, read + 150)
        topics["retained"].put(keys("a", 100, 250))
        topics["idle"].put(keys("p2-", 100), 2)
        topics["idle"].delete_records(2, 60)
        topics["grown"].grow(6)
        topics["grown"].put(keys("p5-", 100), 5)
        topics["grown"].delete_records(5, 25)
        # All that was read may go.
        topics["transactions"].delete_records(0, -1)
        self.expire("retained")
        old = {name: topics[name].documents() for name in ("longer", "shorter", "equal")}
        for name, n in (("longer", 1000), ("shorter", 100), ("equal", 300)):
            topics[name].recreate()
            topics[name].put(keys("b", n))
        for name in ("deletions", "kept"):
            topics[name].put(keys("a", 100))
            topics[name].remove(keys("a", 50))
            self.compact(name, 250 if name == "deletions" else 300)
        server.begin()
        # Whatever was not lost is there, document by document.
        server.holds("jobs", topics["jobs"].documents(lambda _, offset: offset < read or offset >= read + 150))
        self.has_lost("jobs", {0: 150})
        server.holds("idle", topics["idle"].documents(lambda partition, offset: partition != 2 or offset >= 60))
        self.has_lost("idle", {2: 60})
        server.holds("grown", topics["grown"].documents(lambda partition, offset: partition != 5 or offset >= 25))
        self.has_lost("grown", {5: 25})
        server.holds("retained", topics["retained"].documents(lambda _, offset: offset < 300))
        self.has_lost("retained", {0: 100})
        self.all_hold("transactions")
        assert not server.warnings("transactions"), "markers are no records"
        for name, before in old.items():
            server.holds(name, {**before, **topics[name].documents()})
            assert server.warnings(name) == ["topic_replaced"], name
        say("down: retention, delete_records, partitions that were never read, topics that were created again (longer, shorter, as long)")
        self.all_hold("kept")
        assert not server.warnings("kept"), server.feed("kept")
        ghosts = {key: title for key, title in server.documents("deletions").items() if key not in topics["deletions"].documents()}
        assert ghosts and ghosts.keys() <= set(keys("a", 50)), ghosts
        until("missed deletions are reported", lambda: server.warnings("deletions") == ["deletions_missed"])
        assert any("delete.retention.ms" in line["message"] for line in server.lines("deletions", "ERROR"))
        say(f"down: compaction took {len(ghosts)} deletions, and the feed says so; those of a topic that keeps them were read")

    def alter(self, name, **config):
        """Other settings for a topic."""
        from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

        changes = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
        self.cluster.done(self.cluster.admin.incremental_alter_configs([resource]))

    def first_offset(self, name):
        consumer = self.consumer()
        low, _ = consumer.get_watermark_offsets(self.partition(name), timeout=10)
        consumer.close()
        return low

    def consumer(self):
        from confluent_kafka import Consumer

        return Consumer({"bootstrap.servers": self.cluster.bootstrap(), "group.id": "check", "enable.partition.eof": True})

    def partition(self, name, offset=0):
        from confluent_kafka import TopicPartition

        return TopicPartition(name, 0, offset)

    def expire(self, name):
        """Retention deletes all records of a topic."""
        self.alter(name, **{"retention.ms": "1", "segment.ms": "100"})
        until(f"retention empties {name}", lambda: self.first_offset(name) == self.topics[name].end())

    def n_records(self, name):
        consumer, n = self.consumer(), 0
        consumer.assign([self.partition(name)])
        while not ((message := consumer.poll(10)).error()):
            n += 1
        consumer.close()
        return n

    def compact(self, name, at_most):
        """Compaction leaves at most so many records. Producing makes the broker end a segment."""

        def is_compacted():
            self.topics[name].put(["roll"])
            time.sleep(0.3)
            return self.n_records(name) <= at_most + 3

        until(f"{name} is compacted", is_compacted)

    def gaps_and_readiness(self):
        """With kafka.ready_when_caught_up, a server whose feed has lost records takes no traffic."""
        server = self.server
        lost = [name for name in self.COLLECTIONS if "records_lost" in server.warnings(name)]
        assert lost == ["jobs", "retained", "idle", "paused", "grown"], lost
        server.end()
        command = list(server.command)
        server.command += ["--set", "kafka.ready_when_caught_up=true"]
        server.begin()
        until("all feeds are at their ends", lambda: all(feed["caught_up"] for feed in server.ask("/v1/feeds")["feeds"]))
        assert [name for name in self.COLLECTIONS if "records_lost" in server.warnings(name)] == lost, "a restart forgets no loss"
        assert server.status("/readyz") == 503
        server.command = command
        say("a loss is remembered, and keeps a server from traffic where kafka.ready_when_caught_up is set")

    def replay(self):
        """Deleting the collection replays what the topic has, and ends the warnings."""
        server = self.server
        for name in self.COLLECTIONS:
            if server.warnings(name):
                server.ask(f"/v1/collections/{name}", method="DELETE")
                if name != "jobs":
                    server.define(name)
        topics = self.topics
        # A killed broker may have forgotten what delete_records took.
        first = {name: self.first_offset(name) for name in ("jobs", "retained", "paused")}
        for name in ("longer", "shorter", "equal", "live", "deletions"):
            self.all_hold(name)
        for name, low in first.items():
            server.holds(name, topics[name].documents(lambda _, offset, low=low: offset >= low))
        until("no warning is left", lambda: not any(server.warnings(name) for name in self.COLLECTIONS))
        until("it takes traffic", lambda: server.status("/readyz") == 200)
        say("a deleted collection is fed anew, and is exact")


def three_nodes(binary, folder):
    """The leaders are killed one after the other, while records come."""
    with Cluster(folder / "three", 3) as cluster:
        say("three nodes listen")
        topic = Topic(cluster, "jobs", 3)
        with Server(binary, folder / "data3", cluster.bootstrap(), {"jobs": "jobs"}) as server:
            for node in cluster.ids:
                for partition in range(3):
                    topic.put(keys(f"p{partition}-", 200, (node - 1) * 100), partition)
                cluster.kill(node)
                for partition in range(3):
                    topic.put(keys(f"p{partition}-", 100, node * 100), partition)
                server.holds("jobs", topic.documents())
                cluster.start(node)
                cluster.wait(node)
            say("each of three nodes is killed, and returns")
            # Without a quorum nothing can be produced; the feed goes on when it is back.
            for node in (1, 2):
                cluster.kill(node)
            for node in (1, 2):
                cluster.start(node)
            for node in (1, 2):
                cluster.wait(node)
            for partition in range(3):
                topic.put(keys(f"p{partition}-", 300, 300), partition)
            server.holds("jobs", topic.documents())
            assert not server.warnings("jobs") and not server.lines("jobs", "ERROR")
        say("two of three nodes are killed, and return")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() if len(sys.argv) < 3 else contextlib.nullcontext(sys.argv[2]) as folder:
        folder = pathlib.Path(folder).resolve()
        with Cluster(folder / "one") as cluster:
            say("one node listens")
            connections.check(binary, folder, cluster, say)
            OneNode(binary, folder, cluster).run()
        three_nodes(binary, folder)
    say("all is well")


main()
