//! The port, who may come, and the Kafka feed as far as it can be judged without a broker.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::Findings;
use crate::config::Settings;
use crate::http::Keys;
use crate::optional;

/// Whoever listens on this machine answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// `holder`: who has the data folder.
pub fn look(findings: &mut Findings, settings: &Settings, holder: Option<&str>) {
    port(findings, settings, holder);
    access(findings, settings);
    kafka(findings, settings);
}

fn port(findings: &mut Findings, settings: &Settings, holder: Option<&str>) {
    let address = settings.http.listen;
    match TcpListener::bind(address) {
        Ok(_) if address.ip().is_loopback() => findings.ok("port", format!("{address} is free")),
        Ok(_) => findings.ok("port", format!("{address} is free, and can be reached from other machines")),
        Err(_) if is_kindred(address) => match holder {
            Some(holder) => findings.ok("port", format!("{address}: a server is running ({holder})")),
            None => findings.warn(
                "port",
                format!("{address}: a server with another data folder is running"),
                "To start one of these settings, too, choose another address with --listen 127.0.0.1:7701",
            ),
        },
        // It does not speak TLS to find out.
        Err(_) if settings.http.tls().is_some() && holder.is_some() => {
            findings.ok("port", format!("{address} is taken, as it should be if a server is running ({})", holder.unwrap_or_default()));
        }
        Err(e) => findings.fail(
            "port",
            format!("{address} cannot be listened on: {e}"),
            "Choose another address with --listen 127.0.0.1:7701, or end the program that has it",
        ),
    }
}

/// API keys and the files of TLS.
fn access(findings: &mut Findings, settings: &Settings) {
    if let Err(e) = settings.check_public() {
        findings.failed("keys", e);
    } else if let Some(file) = settings.auth.keys_file() {
        match Keys::open(file) {
            Ok(_) => findings.ok("keys", file.display().to_string()),
            Err(e) => findings.failed("keys", e),
        }
    }
    if let Some((certificate, key)) = settings.http.tls() {
        for (name, file) in [("http.tls_certificate", certificate), ("http.tls_key", key)] {
            match fs::read_to_string(&file) {
                Ok(text) if text.contains("-----BEGIN ") => findings.ok("tls", file.display().to_string()),
                Ok(_) => findings.fail("tls", format!("{} holds no PEM", file.display()), format!("{name} names a PEM file")),
                Err(e) => findings.fail("tls", format!("{} cannot be read: {e}", file.display()), format!("{name} names it")),
            }
        }
    }
}

fn kafka(findings: &mut Findings, settings: &Settings) {
    let kafka = &settings.kafka;
    let topics: Vec<&str> = kafka.topics.values().map(String::as_str).filter(|topic| !topic.is_empty()).collect();
    if kafka.brokers.is_empty() {
        return;
    }
    if !optional::KAFKA.is_built {
        let found = format!("kafka.brokers is {}, but {}", kafka.brokers, optional::KAFKA.missing());
        findings.fail("kafka", found, "Use such a build, or empty kafka.brokers");
    } else if topics.is_empty() {
        findings.warn("kafka", "kafka.brokers is set, but no topic", "Name topics: [kafka.topics] jobs = \"job-postings\"");
    } else if let Err(found) = kafka.check_files() {
        findings.fail("kafka", found, "Correct the path, or let the server's user read the file");
    } else {
        findings.ok("kafka", format!("topics {} of {}; GET /v1/feeds shows whether they are read", topics.join(", "), kafka.brokers));
    }
}

/// Whether a Kindred answers there.
fn is_kindred(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        connection.take(4_096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    // Every answer of ours has a request id.
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.") && answer.contains("x-request-id: ") && answer.ends_with("\r\n\r\nok"))
}
