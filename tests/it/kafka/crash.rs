//! The real binary, killed while it is fed: no record is lost, none has an effect twice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kindred_encoder::assets;
use serde_json::Value;

use super::broker::{Broker, free_address, sent};
use super::{embedded, until};
use crate::app::models;

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(dir: &Path, broker: &Broker) -> Self {
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
        command.current_dir(dir).args(["serve", "--listen", &address, "--model-dir"]).arg(models().join(assets::MODEL_NAME));
        for setting in [
            &format!("kafka.brokers={:?}", broker.address),
            "kafka.topics.jobs=\"crash\"",
            "kafka.topics.members=\"\"",
            // Many batches, so that the end comes anywhere in between.
            "kafka.max_batch_records=16",
            "kafka.ready_when_caught_up=true",
        ] {
            command.args(["--set", setting]);
        }
        Self { process: command.stderr(Stdio::null()).spawn().unwrap(), address }
    }

    /// `None` while it does not answer, or not with a 200.
    fn get(&self, path: &str) -> Option<Value> {
        let mut connection = TcpStream::connect(&self.address).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        connection.write_all(format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split(' ').nth(1)?.eq("200").then(|| serde_json::from_str(body).unwrap())
    }

    fn seqno(&self) -> Option<u64> {
        self.get("/v1/collections/jobs")?["seqno"].as_u64()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_killed_server_goes_on_without_loss_or_repetition() {
    const N: usize = 3_000;
    let (dir, broker) = (tempfile::tempdir().unwrap(), Broker::start());
    broker.create_topic("crash", 3);
    let values: Vec<(String, String)> = (0..N).map(|n| (format!("j{}", n % 1_000), embedded(n))).collect();
    let records: Vec<_> = values.iter().map(|(key, value)| sent(key, value)).collect();
    broker.produce("crash", &records);
    let mut reached = 0;
    for _ in 0..6 {
        let server = Server::start(dir.path(), &broker);
        until("the feed goes on", || server.seqno().is_some_and(|seqno| seqno > reached));
        // Dropping kills it, at whatever it does just then.
        reached = server.seqno().unwrap_or(reached);
    }
    let server = Server::start(dir.path(), &broker);
    until("it has caught up", || server.get("/readyz").is_some());
    let told = server.get("/v1/collections/jobs").unwrap();
    // Each record has a new value and no batch has one key twice: there are as many changes as records, after the positions at which the feed
    // first began.
    assert_eq!((told["n_documents"].as_u64(), told["seqno"].as_u64()), (Some(1_000), Some(1 + N as u64)), "{told}");
    for n in 2_000..2_010 {
        let document = server.get(&format!("/v1/collections/jobs/documents/j{}", n % 1_000)).unwrap();
        assert_eq!(document["fields"]["title"], format!("job {n}"), "the last one counts");
    }
}
