//! The metrics; `docs/metrics.md` is the one table of their names, units and meanings.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

/// Bounds of the histograms, in seconds: from a memory access away to a client that gave up.
const SECONDS: [f64; 14] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Bounds of the texts of a batch.
const TEXTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0];

/// Bounds of shares.
const SHARES: [f64; 8] = [0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];

/// Gauges are set at every scrape, or by the feed at least every second; one that is not any more is dropped.
const GAUGE_LIFETIME: Duration = Duration::from_secs(300);

/// How often measurements are put into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Gives each metric its line of the table as its help.
fn describe() {
    for row in include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', ""));
        let (Some(name), Some(unit), Some(_labels), Some(what)) = (cells.next(), cells.next(), cells.next(), cells.next()) else {
            continue;
        };
        let (name, help) = (metrics::KeyName::from(name), metrics::SharedString::from(format!("{what} ({unit})")));
        metrics::with_recorder(|recorder| {
            recorder.describe_counter(name.clone(), None, help.clone());
            recorder.describe_gauge(name.clone(), None, help.clone());
            recorder.describe_histogram(name, None, help);
        });
    }
}

/// Starts collecting, once per process.
pub fn install() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full("kindred_encoder_batch_texts".to_owned()), &TEXTS))
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full("kindred_recall".to_owned()), &SHARES))
            .expect("the bounds above are not empty");
        // A deleted collection's gauges go away.
        let builder = builder.idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_LIFETIME));
        // A recorder that is there already keeps the metrics; then this text stays empty, and nothing fails.
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("metrics are collected by another recorder: /metrics stays empty");
        }
        describe();
        // Every measurement waits in memory to be put into its histogram, which is else done only when somebody asks for the metrics.
        let kept_up = handle.clone();
        let upkeep = move || loop {
            thread::sleep(UPKEEP);
            kept_up.run_upkeep();
        };
        if let Err(e) = thread::Builder::new().name("metrics".to_owned()).spawn(upkeep) {
            tracing::warn!(error = %e, "metrics take memory until somebody asks for them");
        }
        handle
    })
}

pub fn http_request(method: &str, route: &str, status: u16, seconds: f64) {
    let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
    metrics::counter!("kindred_http_requests_total", &labels).increment(1);
    metrics::histogram!("kindred_http_request_seconds", "route" => route.to_owned()).record(seconds);
}

pub fn search_stage(stage: &'static str, micros: u64) {
    metrics::histogram!("kindred_search_stage_seconds", "stage" => stage).record(micros as f64 / 1e6);
}

pub fn search_degraded(stage: &'static str) {
    metrics::counter!("kindred_search_degraded_total", "stage" => stage).increment(1);
}

pub fn recall(collection: &str, selectivity: f64, recall: f64) {
    let labels = [("collection", collection.to_owned()), ("selectivity", selectivity.to_string())];
    metrics::histogram!("kindred_recall", &labels).record(recall);
}

pub fn recall_alarm(collection: &str, alarm: bool) {
    metrics::gauge!("kindred_recall_alarm", "collection" => collection.to_owned()).set(f64::from(u8::from(alarm)));
}

/// Whether a collection is not served because its files are damaged.
pub fn collection_damaged(collection: &str, is_damaged: bool) {
    metrics::gauge!("kindred_collection_damaged", "collection" => collection.to_owned()).set(f64::from(u8::from(is_damaged)));
}

pub fn documents_written(outcome: &'static str, n: usize) {
    metrics::counter!("kindred_documents_written_total", "outcome" => outcome).increment(n as u64);
}

pub fn texts_encoded(n: usize) {
    metrics::counter!("kindred_texts_encoded_total").increment(n as u64);
}

pub fn encodes_saved(reason: &'static str, n: usize) {
    metrics::counter!("kindred_encodes_saved_total", "reason" => reason).increment(n as u64);
}

pub fn encoder_info(model: &str, provider: &str, query_precision: String, document_precision: String) {
    let (model, provider) = (model.to_owned(), provider.to_owned());
    let labels =
        [("model", model), ("provider", provider), ("query_precision", query_precision), ("document_precision", document_precision)];
    metrics::gauge!("kindred_encoder_info", &labels).set(1.0);
}

pub fn log_commit(n_requests: usize) {
    metrics::counter!("kindred_log_commits_total").increment(1);
    metrics::counter!("kindred_log_requests_total").increment(n_requests as u64);
}

pub fn documents_expired(n: usize) {
    metrics::counter!("kindred_documents_expired_total").increment(n as u64);
}

pub fn collection_size(collection: &str, n_documents: u64, n_changes: u64) {
    metrics::gauge!("kindred_documents", "collection" => collection.to_owned()).set(n_documents as f64);
    metrics::gauge!("kindred_changes", "collection" => collection.to_owned()).set(n_changes as f64);
}

fn of_feed(collection: &str, topic: &str) -> [(&'static str, String); 2] {
    [("collection", collection.to_owned()), ("topic", topic.to_owned())]
}

pub fn kafka_records(collection: &str, topic: &str, n: usize) {
    metrics::counter!("kindred_kafka_records_total", &of_feed(collection, topic)).increment(n as u64);
}

/// Registers the counters of a feed at 0, because a counter that begins at 1 does not show growth.
pub fn kafka_begins(collection: &str, topic: &str) {
    ["key", "size", "utf8", "json", "id", "document"].into_iter().for_each(|reason| dead_letters(collection, topic, reason, 0));
    ["tls", "authentication", "name", "connection", "timeout"]
        .into_iter()
        .for_each(|reason| connection_errors(collection, topic, reason, 0));
}

pub fn kafka_dead_letter(collection: &str, topic: &str, reason: &'static str) {
    dead_letters(collection, topic, reason, 1);
}

fn dead_letters(collection: &str, topic: &str, reason: &'static str, n: u64) {
    let [collection, topic] = of_feed(collection, topic);
    metrics::counter!("kindred_kafka_dead_letters_total", &[collection, topic, ("reason", reason.to_owned())]).increment(n);
}

pub fn kafka_connection_error(collection: &str, topic: &str, reason: &'static str) {
    connection_errors(collection, topic, reason, 1);
}

fn connection_errors(collection: &str, topic: &str, reason: &'static str, n: u64) {
    let [collection, topic] = of_feed(collection, topic);
    metrics::counter!("kindred_kafka_connection_errors_total", &[collection, topic, ("reason", reason.to_owned())]).increment(n);
}

pub fn kafka_lost_offsets(collection: &str, topic: &str, partition: i32, n: u64) {
    let [collection, topic] = of_feed(collection, topic);
    metrics::gauge!("kindred_kafka_lost_offsets", &[collection, topic, ("partition", partition.to_string())]).set(n as f64);
}

/// When this was last noticed, in seconds since 1970; 0: never.
pub fn kafka_warning(collection: &str, topic: &str, kind: &'static str, at_s: f64) {
    let [collection, topic] = of_feed(collection, topic);
    metrics::gauge!("kindred_kafka_warning_timestamp_seconds", &[collection, topic, ("kind", kind.to_owned())]).set(at_s);
}

pub fn kafka_retry(collection: &str, topic: &str) {
    metrics::counter!("kindred_kafka_write_retries_total", &of_feed(collection, topic)).increment(1);
}

pub fn kafka_lag(collection: &str, topic: &str, partition: i32, lag: u64) {
    let [collection, topic] = of_feed(collection, topic);
    metrics::gauge!("kindred_kafka_lag_records", &[collection, topic, ("partition", partition.to_string())]).set(lag as f64);
}

pub fn kafka_connected(collection: &str, topic: &str, connected: bool) {
    metrics::gauge!("kindred_kafka_connected", &of_feed(collection, topic)).set(f64::from(u8::from(connected)));
}

pub fn kafka_waiting(collection: &str, topic: &str, waiting: bool) {
    metrics::gauge!("kindred_kafka_waiting", &of_feed(collection, topic)).set(f64::from(u8::from(waiting)));
}

pub fn kafka_caught_up(collection: &str, topic: &str, caught_up: bool) {
    metrics::gauge!("kindred_kafka_caught_up", &of_feed(collection, topic)).set(f64::from(u8::from(caught_up)));
}

pub fn kafka_freshness(collection: &str, topic: &str, seconds: f64) {
    metrics::histogram!("kindred_kafka_freshness_seconds", &of_feed(collection, topic)).record(seconds);
}
