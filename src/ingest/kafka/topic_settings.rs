//! The settings of a topic that decide for how long its deletions can be read.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig as _;
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;

use super::client::{base_config, code};
use super::settings::KafkaSettings;

/// Time that the brokers have to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a compacted topic keeps tombstones: its `delete.retention.ms`. `None` if the topic is not compacted. Connects a client of its
/// own and blocks until the brokers have answered.
///
/// # Errors
/// The brokers do not answer, or refuse (the feed's user needs `DescribeConfigs` on the topic).
pub(super) fn delete_retention(settings: &KafkaSettings, topic: &str, runtime: &Handle) -> Result<Option<Duration>, String> {
    let client: AdminClient<DefaultClientContext> = AdminClient::from_config(&base_config(settings)).map_err(|e: KafkaError| code(&e))?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let topics = [ResourceSpecifier::Topic(topic)];
    // Records wait meanwhile, so the wait is bounded here as well, and the client is closed elsewhere.
    let answer = runtime.block_on(async { tokio::time::timeout(ANSWER, client.describe_configs(&topics, &options)).await });
    std::thread::spawn(move || drop(client));
    let described = answer.map_err(|_| "the brokers do not answer")?.map_err(|e| code(&e))?;
    let topic = described.into_iter().next().ok_or("the brokers describe no topic")?.map_err(|code| code.to_string())?;
    let value = |name| topic.get(name).and_then(|entry| entry.value.as_deref());
    if !value("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        return Ok(None);
    }
    let ms = value("delete.retention.ms").and_then(|ms| ms.parse().ok()).ok_or("the brokers report no delete.retention.ms")?;
    Ok(Some(Duration::from_millis(ms)))
}
