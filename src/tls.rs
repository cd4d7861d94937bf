//! Which cryptography TLS uses, wherever there is TLS.

/// Chooses it for the process. Whoever embeds this and has chosen already may keep theirs.
pub(crate) fn choose_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
