//! A producer that waits until the brokers have all that it sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::statistics::Statistics;

use super::client::{Cause, base_config, code, forward_log, refused, without_statistics};
use super::dead_letters::DeadLetter;
use super::settings::KafkaSettings;

/// Time that dead letters may take to the broker.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends dead letters, and what `kindred bench` measures with.
pub struct Producer {
    /// One batch of letters at a time: deliveries are counted.
    inner: Mutex<BaseProducer<Deliveries>>,
}

#[derive(Default)]
struct Deliveries {
    n_delivered: AtomicUsize,
    failure: Mutex<Option<String>>,
    /// Why the latest connection failed.
    connection_failure: Mutex<Option<String>>,
}

impl Producer {
    /// Connects in the background.
    ///
    /// # Errors
    /// The text of what librdkafka has against the settings.
    pub fn new(settings: &KafkaSettings) -> Result<Self, String> {
        let mut config = base_config(settings);
        config.set("enable.idempotence", "true").set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string());
        // Those are settings of a consumer, too; an unknown one is only warned of.
        let inner = config.create_with_context(Deliveries::default()).map_err(|e: KafkaError| refused(settings, &e))?;
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// Sends letters as they were, with what is wrong in their headers, and waits until the brokers have them.
    ///
    /// # Errors
    /// The text of the last failure; some of them may be there all the same.
    pub(super) fn send(&self, topic: &str, letters: &[DeadLetter<'_>]) -> Result<(), String> {
        self.send_all(letters.iter().map(|letter| {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).headers(headers(letter));
            record.key = letter.record.key.as_deref();
            record.payload = letter.record.value.as_deref();
            record
        }))
    }

    /// Sends keys with their values, and waits until the brokers have them.
    ///
    /// # Errors
    /// As of `Self::send`.
    pub fn send_values<'a>(&self, topic: &str, records: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), String> {
        self.send_all(records.map(|(key, value)| BaseRecord::to(topic).key(key).payload(value)))
    }

    fn send_all<'a>(&self, records: impl Iterator<Item = BaseRecord<'a, [u8], [u8]>>) -> Result<(), String> {
        let producer = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let deliveries = Arc::clone(producer.context());
        deliveries.n_delivered.store(0, Ordering::Relaxed);
        *deliveries.failure() = None;
        let mut n_sent = 0;
        for record in records {
            producer.send(record).map_err(|(e, _)| code(&e))?;
            n_sent += 1;
        }
        let flushed = producer.flush(DELIVERY_TIMEOUT + Duration::from_secs(1));
        if flushed.is_err() {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
        let failure = match deliveries.failure().take() {
            Some(failure) => failure,
            None if deliveries.n_delivered.load(Ordering::Relaxed) == n_sent => return Ok(()),
            None => flushed.err().map_or_else(|| "not all were acknowledged".to_owned(), |e| code(&e)),
        };
        let connection_failure = deliveries.connection_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(connection_failure.map_or(failure.clone(), |why| format!("{failure}: {why}")))
    }
}

impl Deliveries {
    fn failure(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log("dead letters", level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code.is_some_and(|code| code != RDKafkaErrorCode::AllBrokersDown && Cause::of_failure(code, reason).is_some()) {
            *self.connection_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(without_statistics(reason).to_owned());
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.n_delivered.fetch_add(1, Ordering::Relaxed)),
            Err((e, _)) => *self.failure() = Some(code(e)),
        }
    }
}

fn headers(letter: &DeadLetter<'_>) -> OwnedHeaders {
    let record = letter.record;
    let mut headers = OwnedHeaders::new();
    for (key, value) in [
        ("kindred.collection", letter.collection.to_owned()),
        ("kindred.topic", letter.topic.to_owned()),
        ("kindred.partition", record.partition.to_string()),
        ("kindred.offset", record.offset.to_string()),
        ("kindred.timestamp_ms", record.timestamp_ms.map(|ms| ms.to_string()).unwrap_or_default()),
        ("kindred.reason", letter.refusal.reason.to_owned()),
        ("kindred.message", letter.refusal.message.clone()),
        ("kindred.value_bytes", record.n_value_bytes.to_string()),
    ] {
        headers = headers.insert(Header { key, value: Some(&value) });
    }
    headers
}
