//! The encoder's metrics; `docs/metrics.md` in the root is the table of all.

pub fn encoder_batch(of: &'static str, n_texts: usize, n_tokens: usize, n_padded: usize, seconds: f64) {
    metrics::histogram!("kindred_encoder_batch_seconds", "of" => of).record(seconds);
    metrics::histogram!("kindred_encoder_batch_texts", "of" => of).record(n_texts as f64);
    metrics::counter!("kindred_encoder_tokens_total", "of" => of).increment(n_tokens as u64);
    metrics::counter!("kindred_encoder_padding_tokens_total", "of" => of).increment((n_padded - n_tokens) as u64);
}

pub fn encoder_refused(of: &'static str, reason: &'static str) {
    metrics::counter!("kindred_encoder_refused_total", "of" => of, "reason" => reason).increment(1);
}

pub fn query_cache(result: &'static str) {
    metrics::counter!("kindred_query_cache_total", "result" => result).increment(1);
}

pub fn query_cache_bytes(bytes: u64) {
    metrics::gauge!("kindred_query_cache_bytes").set(bytes as f64);
}

pub fn phrase_cache(result: &'static str) {
    metrics::counter!("kindred_phrase_cache_total", "result" => result).increment(1);
}

pub fn phrase_cache_bytes(bytes: u64) {
    metrics::gauge!("kindred_phrase_cache_bytes").set(bytes as f64);
}
