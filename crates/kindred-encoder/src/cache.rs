//! Embeddings of queries, and of documents' phrases, that were asked for before (the only file that names `moka`).
//!
//! *Concurrency*: when several ask the same at once, one encodes and the others wait for it; if that one hangs up, another takes over.

use std::hash::Hash;
use std::sync::Arc;

use moka::future::Cache;

use super::EncoderError;
use crate::metrics;
use kindred_core::domain::Embedding;

/// What an entry takes beside its text and its numbers, about.
const ENTRY_BYTES: usize = 200;

/// Embeddings by text, of one model.
pub type QueryCache = EmbeddingCache<String, Embedding>;

/// Embeddings of lists of texts, by the hash of a whole list: what a text is encoded with moves the last bits of its embedding, and what is kept must
/// be what is made.
pub type PhraseCache = EmbeddingCache<[u8; 32], Vec<Embedding>>;

/// What was encoded, bounded by bytes.
pub struct EmbeddingCache<K, V> {
    kept: Option<Cache<K, Arc<V>>>,
    count: fn(&'static str),
    tell_bytes: fn(u64),
}

impl QueryCache {
    /// Keeps so many bytes; none with 0.
    pub fn of_queries(max_bytes: u64) -> Self {
        let weigh = |text: &String, embedding: &Embedding| text.len() + size_of_val(embedding.as_slice());
        Self::new(max_bytes, weigh, metrics::query_cache, metrics::query_cache_bytes)
    }
}

impl PhraseCache {
    /// Keeps so many bytes; none with 0.
    pub fn of_phrases(max_bytes: u64) -> Self {
        let weigh = |_: &[u8; 32], embeddings: &Vec<Embedding>| {
            embeddings.iter().map(|embedding| size_of::<Embedding>() + size_of_val(embedding.as_slice())).sum()
        };
        Self::new(max_bytes, weigh, metrics::phrase_cache, metrics::phrase_cache_bytes)
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Send + Sync + 'static> EmbeddingCache<K, V> {
    fn new(max_bytes: u64, weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static, count: fn(&'static str), tell_bytes: fn(u64)) -> Self {
        let weigh = move |key: &K, value: &Arc<V>| u32::try_from(weigh(key, value) + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self { kept: (max_bytes > 0).then(|| Cache::builder().weigher(weigh).max_capacity(max_bytes).build()), count, tell_bytes }
    }

    /// What there is for a key: kept, or made now and kept. With `skip`, made now and not kept.
    ///
    /// # Errors
    /// That of `encode`.
    pub async fn get(&self, key: K, skip: bool, encode: impl Future<Output = Result<V, EncoderError>>) -> Result<Arc<V>, EncoderError> {
        let Some(kept) = self.kept.as_ref().filter(|_| !skip) else {
            (self.count)("off");
            return encode.await.map(Arc::new);
        };
        if let Some(value) = kept.get(&key).await {
            (self.count)("hit");
            return Ok(value);
        }
        let entry = kept.entry(key).or_try_insert_with(async { encode.await.map(Arc::new) }).await.map_err(EncoderError::Shared)?;
        (self.count)(if entry.is_fresh() { "miss" } else { "shared" });
        (self.tell_bytes)(kept.weighted_size());
        Ok(entry.into_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn embedding() -> Embedding {
        Embedding::new(vec![1.0, 2.0], 2).unwrap()
    }

    #[tokio::test]
    async fn what_is_asked_at_once_is_encoded_once() {
        let (cache, n_encoded, go) = (QueryCache::of_queries(10_000), AtomicUsize::new(0), Notify::new());
        let ask = || async {
            let encode = async {
                n_encoded.fetch_add(1, Ordering::Relaxed);
                go.notified().await;
                Ok(embedding())
            };
            cache.get("nurse".to_owned(), false, encode).await.unwrap()
        };
        let release = async {
            tokio::task::yield_now().await;
            go.notify_waiters();
        };
        let (a, b, ()) = tokio::join!(ask(), ask(), release);
        assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&a, &ask().await));
        assert_eq!(n_encoded.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept_and_skipping_neither_reads_nor_keeps() {
        let cache = QueryCache::of_queries(10_000);
        let failed = cache.get("nurse".to_owned(), false, async { Err(EncoderError::Stopped) }).await.unwrap_err();
        assert_eq!(failed.kind(), EncoderError::Stopped.kind());
        let first = cache.get("nurse".to_owned(), false, async { Ok(embedding()) }).await.unwrap();
        let skipped = cache.get("nurse".to_owned(), true, async { Ok(embedding()) }).await.unwrap();
        let again = cache.get("nurse".to_owned(), false, async { Err(EncoderError::Stopped) }).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &skipped) && Arc::ptr_eq(&first, &again));
    }

    #[tokio::test]
    async fn if_the_one_that_encodes_hangs_up_another_takes_over() {
        let cache = Arc::new(QueryCache::of_queries(10_000));
        let stuck = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.get("nurse".to_owned(), false, std::future::pending()).await.is_ok() }
        });
        tokio::task::yield_now().await;
        let waiting = tokio::spawn(async move { cache.get("nurse".to_owned(), false, async { Ok(embedding()) }).await.is_ok() });
        tokio::task::yield_now().await;
        stuck.abort();
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let cache = QueryCache::of_queries(2_000);
        for i in 0..200 {
            cache.get(format!("query {i}"), false, async { Ok(embedding()) }).await.unwrap();
        }
        let kept = cache.kept.unwrap();
        kept.run_pending_tasks().await;
        assert!(kept.weighted_size() <= 2_000 && kept.entry_count() > 0, "{} bytes", kept.weighted_size());
    }
}
