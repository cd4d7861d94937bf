//! librdkafka: what consumer and producer share.

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::settings::KafkaSettings;

/// What consumer and producer share.
pub(super) fn base_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", settings.brokers.trim());
    config.set("client.id", "kindred");
    config.set("socket.keepalive.enable", "true");
    config.set("reconnect.backoff.max.ms", "2000");
    for (name, value) in settings.flat_properties() {
        config.set(name, value);
    }
    config
}

/// Errors of the connection: librdkafka tries again by itself, and the state says so.
pub(super) fn is_about_the_way(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::Resolve
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
    )
}

/// What an error is about, in a few words.
pub(super) fn code(e: &KafkaError) -> String {
    e.rdkafka_error_code().map_or_else(|| e.to_string(), |code| code.to_string())
}

/// What librdkafka has against the settings.
pub(super) fn refused(e: &KafkaError) -> String {
    match e {
        KafkaError::ClientConfig(_, description, name, value) if !name.contains("password") => {
            format!("kafka.properties.{name} = {value:?}: {description}")
        }
        e => e.to_string(),
    }
}
