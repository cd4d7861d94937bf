//! Where changes are written to: the collection that is searched or another one, over HTTP or through Kafka.

use anyhow::Result;
use serde_json::Value;

use crate::client::Client;
use crate::corpus::Corpus;
use crate::prepare::{self, COLLECTION};
#[cfg(feature = "kafka")]
use kindred::ingest::kafka::{KafkaSettings, Producer};

/// A collection that nobody searches.
pub(super) const ELSEWHERE: &str = "bench-elsewhere";

/// How changes reach the collection that is searched.
#[derive(Debug)]
pub(super) enum Way {
    Http,
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaSettings>),
}

/// One writer's way.
pub(super) enum Sink {
    Http {
        client: Client,
        path: String,
    },
    #[cfg(feature = "kafka")]
    Kafka {
        producer: Producer,
        topic: String,
    },
}

/// What is sent at once, made before it is due.
pub(super) enum Body {
    Text(String),
    #[cfg(feature = "kafka")]
    Records(Vec<(String, String)>),
}

impl Way {
    /// A way of its own for each thread that writes.
    ///
    /// # Errors
    /// Settings that a Kafka client does not take.
    pub fn sink(&self, root: &str) -> Result<Sink> {
        match self {
            Self::Http => Ok(Sink::http(root, COLLECTION)),
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => {
                let (_, topic) = settings.feeds().next().expect("the bench feeds its collection");
                Ok(Sink::Kafka { producer: Producer::new(settings).map_err(anyhow::Error::msg)?, topic: topic.to_owned() })
            }
        }
    }
}

impl Sink {
    pub fn http(root: &str, collection: &str) -> Self {
        Self::Http { client: Client::new(root), path: format!("/v1/collections/{collection}") }
    }

    /// What is sent for some documents.
    pub fn body(&self, items: Vec<Value>) -> Body {
        match self {
            Self::Http { .. } => Body::Text(Value::Array(items).to_string()),
            #[cfg(feature = "kafka")]
            Self::Kafka { .. } => {
                let record = |item: Value| (item["id"].as_str().unwrap_or_default().to_owned(), item.to_string());
                Body::Records(items.into_iter().map(record).collect())
            }
        }
    }

    /// Sends it and waits until the other side has it.
    ///
    /// # Errors
    /// It is not taken.
    pub fn send(&self, body: &Body) -> Result<()> {
        match (self, body) {
            (Self::Http { client, path }, Body::Text(text)) => prepare::put(client, &format!("{path}/documents"), text),
            #[cfg(feature = "kafka")]
            (Self::Kafka { producer, topic }, Body::Records(records)) => {
                let records = records.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()));
                producer.send_values(topic, records).map_err(anyhow::Error::msg)
            }
            #[cfg(feature = "kafka")]
            _ => unreachable!("a sink sends what it has made"),
        }
    }

    /// Makes the collection behind it anew, without documents.
    ///
    /// # Errors
    /// The server refuses.
    pub fn make_anew(&self) -> Result<()> {
        #[cfg_attr(not(feature = "kafka"), expect(irrefutable_let_patterns, reason = "without Kafka there is one way"))]
        if let Self::Http { client, path } = self {
            let gone = client.call(&ureq::http::Method::DELETE, path, "")?;
            if gone.status != 404 {
                gone.ok()?;
            }
            client.put(path, &Corpus::definition().to_string())?.ok()?;
        }
        Ok(())
    }
}
