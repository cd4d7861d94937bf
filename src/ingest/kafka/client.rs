//! librdkafka: what its consumer, producer and admin client share.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::settings::KafkaSettings;

/// The configuration that all clients share.
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

/// Why no connection to a broker works. librdkafka tries again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Tls,
    Authentication,
    Name,
    Connection,
    Timeout,
}

impl Cause {
    /// The cause of a failed connection; `None` if the error is not about one.
    pub fn of_failure(code: RDKafkaErrorCode, reason: &str) -> Option<Self> {
        // A broker that speaks no TLS ends the handshake, which has the code of any other end.
        if reason.contains("SSL handshake failed") { Some(Self::Tls) } else { Self::of(code) }
    }

    /// The cause that an error code stands for; `None` if the code is not about a connection.
    pub fn of(code: RDKafkaErrorCode) -> Option<Self> {
        use RDKafkaErrorCode as Code;
        match code {
            Code::SSL => Some(Self::Tls),
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
                Some(Self::Authentication)
            }
            Code::Resolve => Some(Self::Name),
            Code::OperationTimedOut | Code::RequestTimedOut => Some(Self::Timeout),
            Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition => Some(Self::Connection),
            _ => None,
        }
    }

    /// The label of metrics and log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
        }
    }

    /// True if only another setting helps, so that every occurrence deserves attention.
    pub fn is_a_setting(self) -> bool {
        matches!(self, Self::Tls | Self::Authentication | Self::Name)
    }
}

/// The error's code in words.
pub(super) fn code(e: &KafkaError) -> String {
    e.rdkafka_error_code().map_or_else(|| e.to_string(), |code| code.to_string())
}

/// Why librdkafka rejects the settings.
pub(super) fn refused(settings: &KafkaSettings, e: &KafkaError) -> String {
    match e {
        KafkaError::ClientConfig(_, description, name, value) if !name.contains("password") => {
            format!("kafka.properties.{name} = {value:?}: {description}")
        }
        KafkaError::ClientCreation(text) => {
            // The text names a property, but not its file.
            let files = settings.files().into_iter().map(|(name, file)| format!("kafka.properties.{name} = {file:?}"));
            format!("{text} ({})", files.collect::<Vec<_>>().join(", "))
        }
        e => e.to_string(),
    }
}

/// A reason of librdkafka without its statistics, which differ each time: "(after 3ms in state CONNECT, 2 identical error(s) suppressed)".
pub(super) fn without_statistics(reason: &str) -> &str {
    reason.rfind(" (after ").map_or(reason, |at| &reason[..at])
}

/// Forwards a log line of librdkafka. Failed connections repeat every two seconds; the feed's state and its own lines report those.
pub(super) fn forward_log(topic: &str, level: RDKafkaLogLevel, facility: &str, message: &str) {
    let is_repeated = matches!(facility, "FAIL" | "ERROR");
    match level {
        RDKafkaLogLevel::Debug => tracing::trace!(topic, facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => tracing::debug!(topic, facility, "librdkafka: {message}"),
        _ if is_repeated => tracing::debug!(topic, facility, "librdkafka: {message}"),
        _ => tracing::warn!(topic, facility, "librdkafka: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_reasons_are_equal_texts() {
        let reason = "ssl://b:9093/bootstrap: SSL handshake failed: certificate verify failed (check it)";
        assert_eq!(without_statistics(reason), reason);
        for statistics in ["(after 3ms in state CONNECT)", "(after 0ms in state SSL_HANDSHAKE, 4 identical error(s) suppressed)"] {
            assert_eq!(without_statistics(&format!("{reason} {statistics}")), reason);
        }
    }
}
