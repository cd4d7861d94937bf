//! Embeddings of queries, and of documents' phrases, that were asked for before (the only file that names `moka`).
//!
//! *Concurrency*: when several callers ask for the same at once, one encodes and the others wait for it. If that caller hangs up,
//! another takes over. If it is refused, because of its own deadline for example, the others try again: nobody inherits a
//! refusal.

use std::hash::Hash;
use std::sync::Arc;

use moka::future::Cache;

use super::EncoderError;
use crate::metrics;
use kindred_core::domain::Embedding;
use kindred_core::error::ErrorKind;

/// What an entry takes beside its text and its numbers, about.
const ENTRY_BYTES: usize = 200;

/// How often a caller waits for another's encoding. After that many refusals it encodes by itself.
const MAX_WAITS: usize = 3;

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

impl<K: Clone + Hash + Eq + Send + Sync + 'static, V: Send + Sync + 'static> EmbeddingCache<K, V> {
    fn new(max_bytes: u64, weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static, count: fn(&'static str), tell_bytes: fn(u64)) -> Self {
        let weigh = move |key: &K, value: &Arc<V>| u32::try_from(weigh(key, value) + ENTRY_BYTES).unwrap_or(u32::MAX);
        Self { kept: (max_bytes > 0).then(|| Cache::builder().weigher(weigh).max_capacity(max_bytes).build()), count, tell_bytes }
    }

    /// Returns the value of a key: a kept one, or one that `encode` makes now and that is kept. `skip` neither reads nor keeps.
    ///
    /// # Errors
    /// That of this caller's `encode`, or of another caller's unless that was only refused (too late, no room).
    pub async fn get(&self, key: K, skip: bool, encode: impl Future<Output = Result<V, EncoderError>>) -> Result<Arc<V>, EncoderError> {
        let Some(kept) = self.kept.as_ref().filter(|_| !skip) else {
            (self.count)("off");
            return encode.await.map(Arc::new);
        };
        let mut encode = Some(encode);
        for _ in 0..MAX_WAITS {
            if let Some(value) = kept.get(&key).await {
                (self.count)("hit");
                return Ok(value);
            }
            // Only the caller that encodes polls its future; the others keep theirs.
            let own = async {
                let encode = encode.take().expect("the cache polls one caller's future, once");
                encode.await.map(Arc::new)
            };
            let made = kept.entry_by_ref(&key).or_try_insert_with(own).await;
            match made {
                Ok(entry) => {
                    (self.count)(if entry.is_fresh() { "miss" } else { "shared" });
                    (self.tell_bytes)(kept.weighted_size());
                    return Ok(entry.into_value());
                }
                Err(e) if encode.is_some() && e.kind() == ErrorKind::Overloaded => {}
                Err(e) => return Err(EncoderError::Shared(e)),
            }
        }
        let encode = encode.expect("another caller was refused each time");
        let value = Arc::new(encode.await?);
        (self.count)("miss");
        kept.insert(key, Arc::clone(&value)).await;
        Ok(value)
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

    fn too_late() -> EncoderError {
        EncoderError::TooLate { section: "encoder", retry_after: std::time::Duration::ZERO }
    }

    /// Each impatient caller is refused only after the patient ones wait for it.
    #[tokio::test]
    async fn nobody_inherits_the_refusal_of_an_impatient_caller() {
        for n_impatient in [1, 2, 10] {
            let (cache, go) = (Arc::new(QueryCache::of_queries(10_000)), Arc::new(Notify::new()));
            let ask = |is_patient: bool| {
                let (cache, go) = (Arc::clone(&cache), Arc::clone(&go));
                tokio::spawn(async move {
                    let encode = async {
                        go.notified().await;
                        if is_patient { Ok(embedding()) } else { Err(too_late()) }
                    };
                    cache.get("nurse".to_owned(), false, encode).await.map_err(|e| e.kind())
                })
            };
            let impatient: Vec<_> = (0..n_impatient).map(|_| ask(false)).collect();
            tokio::task::yield_now().await;
            let patient: Vec<_> = (0..20).map(|_| ask(true)).collect();
            let all = async {
                for call in patient {
                    assert_eq!(call.await.unwrap().as_deref(), Ok(&embedding()), "{n_impatient} impatient callers");
                }
                for call in impatient {
                    // One that waited for a patient caller was served, too.
                    assert!(matches!(call.await.unwrap(), Ok(_) | Err(ErrorKind::Overloaded)));
                }
            };
            let release = async {
                loop {
                    go.notify_waiters();
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { () = all => {} () = release => {} }
        }
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
