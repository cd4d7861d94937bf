//! The adapter: a small map on the embeddings of queries, learned from judgments. Documents stay as they are.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | the map, and as it is stored |
//! | `loss.rs` | what a batch of queries loses, and which way is down |
//! | `train.rs` | learns a map, and tries it on queries that it did not see |
//!
//! *Shape*: `u` and `v` are `[rank × dims]`. A query q becomes q + Σ (vᵢ · q) uᵢ, scaled to unit length; with u = 0 it stays as it is.
//!
//! *As stored* in a profile, by direction: `{"model": fingerprint, "rank": 32, "u": …, "v": …}`, numbers as f32, little-endian, row by row,
//! in base64. A map says something about the embeddings of one model: it is bound to that model's fingerprint.

mod loss;
mod train;

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use kindred_core::domain::Embedding;
use kindred_core::error::ErrorKind;
pub use train::{BoxError, Example, MAX_STEPS, Passages, TrainError, Trained, train};

/// Most directions that a map changes.
pub const MAX_RANK: usize = 64;
/// Largest number of a map: no embedding leaves the numbers by it.
const MAX_NUMBER: f32 = 1e3;

/// Why something is no adapter, or none for a collection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    #[error("it is not an adapter: {reason}. `kindred train adapter` writes one")]
    Json { reason: String },
    #[error("its rank is {actual}: it must be from 1 to {MAX_RANK}")]
    Rank { actual: usize },
    #[error("{name:?} is not base64: {reason}")]
    Base64 { name: &'static str, reason: String },
    #[error("\"u\" has {u} bytes and \"v\" {v}: both must have rank × dimensions × 4, and the rank is {rank}")]
    Size { u: usize, v: usize, rank: usize },
    #[error("number {position} of {name:?} is not from -{MAX_NUMBER} to {MAX_NUMBER}")]
    Number { name: &'static str, position: usize },
    #[error("it has {actual} dimensions, and the collection's model {expected}: train one for this collection")]
    Dims { expected: usize, actual: usize },
    #[error(
        "it was trained for the model {trained_for}, and the collection's embeddings are of {model}: train one for this collection (`kindred train adapter`)"
    )]
    OtherModel { trained_for: Fingerprint, model: Fingerprint },
}

impl AdapterError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// A model's fingerprint; told by its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.0.chars().take(12).collect::<String>())
    }
}

/// A low-rank map on embeddings of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    model: String,
    map: Map,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    model: String,
    rank: usize,
    u: String,
    v: String,
}

impl Adapter {
    /// Reads one that was stored.
    ///
    /// # Errors
    /// [`AdapterError`] says what is wrong with it.
    pub fn read(json: &Value) -> Result<Self, AdapterError> {
        let Written { model, rank, u, v } = Written::deserialize(json).map_err(|e| AdapterError::Json { reason: e.to_string() })?;
        if !(1..=MAX_RANK).contains(&rank) {
            return Err(AdapterError::Rank { actual: rank });
        }
        let bytes = |name, text: &str| BASE64_STANDARD.decode(text).map_err(|e| AdapterError::Base64 { name, reason: e.to_string() });
        let (u, v) = (bytes("u", &u)?, bytes("v", &v)?);
        if u.is_empty() || u.len() != v.len() || u.len() % (4 * rank) != 0 {
            return Err(AdapterError::Size { u: u.len(), v: v.len(), rank });
        }
        let dims = u.len() / 4 / rank;
        Ok(Self { model, map: Map { dims, u: numbers("u", &u)?, v: numbers("v", &v)? } })
    }

    /// As it is stored.
    pub fn write(&self) -> Value {
        let base64 = |numbers: &[f32]| BASE64_STANDARD.encode(numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        let Map { u, v, .. } = &self.map;
        let written = Written { model: self.model.clone(), rank: self.rank(), u: base64(u), v: base64(v) };
        serde_json::to_value(written).expect("it is made of JSON")
    }

    /// Refuses one that is not for embeddings of a model.
    ///
    /// # Errors
    /// [`AdapterError::OtherModel`], [`AdapterError::Dims`].
    pub fn check(&self, fingerprint: &str, dims: usize) -> Result<(), AdapterError> {
        if self.model != fingerprint {
            let [trained_for, model] = [&self.model, fingerprint].map(|name| Fingerprint(name.to_owned()));
            return Err(AdapterError::OtherModel { trained_for, model });
        }
        if self.map.dims != dims {
            return Err(AdapterError::Dims { expected: dims, actual: self.map.dims });
        }
        Ok(())
    }

    /// The embedding to search with instead of a query's. One that the map sends nowhere stays as it is.
    ///
    /// # Panics
    /// When the query is of another model's dimensions: [`Self::check`] comes first.
    pub fn apply(&self, query: &Embedding) -> Embedding {
        self.map.apply(query)
    }

    pub fn rank(&self) -> usize {
        self.map.rank()
    }
}

/// The numbers of `name`, which has four bytes for each.
fn numbers(name: &'static str, bytes: &[u8]) -> Result<Vec<f32>, AdapterError> {
    let numbers: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    match numbers.iter().position(|x| x.is_nan() || x.abs() > MAX_NUMBER) {
        Some(position) => Err(AdapterError::Number { name, position }),
        None => Ok(numbers),
    }
}

/// The numbers of a map: `u` and `v` are `[rank × dims]`.
#[derive(Debug, Clone, PartialEq)]
struct Map {
    dims: usize,
    u: Vec<f32>,
    v: Vec<f32>,
}

impl Map {
    fn rank(&self) -> usize {
        self.v.len() / self.dims
    }

    fn apply(&self, query: &Embedding) -> Embedding {
        Embedding::new(self.mapped(query.as_slice()), self.dims).unwrap_or_else(|_| query.clone())
    }

    /// q + Σ (vᵢ · q) uᵢ, `[dims]`, of any length.
    fn mapped(&self, query: &[f32]) -> Vec<f32> {
        assert_eq!(query.len(), self.dims, "a map is for embeddings of one model");
        let mut mapped = query.to_vec();
        for (u, v) in self.u.chunks_exact(self.dims).zip(self.v.chunks_exact(self.dims)) {
            add(&mut mapped, dot(v, query), u);
        }
        mapped
    }
}

/// The dot product of equally long vectors, in eight sums that a processor adds at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0f32; 8];
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Adds a multiple of a vector to another one.
fn add(to: &mut [f32], times: f32, of: &[f32]) {
    to.iter_mut().zip(of).for_each(|(to, of)| *to += times * of);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn embedding(numbers: &[f32]) -> Embedding {
        Embedding::new(numbers.to_vec(), numbers.len()).unwrap()
    }

    /// Turns what points along the first axis towards the second.
    fn turn() -> Adapter {
        Adapter { model: "m1".to_owned(), map: Map { dims: 3, u: vec![-1.0, 1.0, 0.0], v: vec![1.0, 0.0, 0.0] } }
    }

    fn changed(key: &str, value: Value) -> String {
        let mut json = turn().write();
        json[key] = value;
        Adapter::read(&json).unwrap_err().to_string()
    }

    #[test]
    fn a_map_maps_and_keeps_the_length() {
        assert_eq!(turn().apply(&embedding(&[1.0, 0.0, 0.0])).as_slice(), [0.0, 1.0, 0.0]);
        assert_eq!(turn().apply(&embedding(&[0.0, 0.6, 0.8])).as_slice(), [0.0, 0.6, 0.8], "nothing of the first axis");
        let mapped = turn().apply(&embedding(&[0.6, 0.8, 0.0]));
        assert!((mapped.dot(&mapped) - 1.0).abs() < 1e-6 && mapped.as_slice()[1] > 0.999, "{mapped:?}");
        let identity = Adapter { model: String::new(), map: Map { dims: 3, u: vec![0.0; 3], v: vec![1.0, 2.0, 3.0] } };
        assert_eq!(identity.apply(&embedding(&[0.6, 0.8, 0.0])), embedding(&[0.6, 0.8, 0.0]));
        let nowhere = Adapter { model: String::new(), map: Map { dims: 2, u: vec![-1.0, 0.0], v: vec![1.0, 0.0] } };
        assert_eq!(nowhere.apply(&embedding(&[1.0, 0.0])).as_slice(), [1.0, 0.0], "what would point nowhere stays");
    }

    #[test]
    fn a_map_is_bound_to_its_model() {
        turn().check("m1", 3).unwrap();
        assert!(matches!(turn().check("m1", 4), Err(AdapterError::Dims { expected: 4, actual: 3 })));
        assert!(turn().check("m2", 3).unwrap_err().to_string().contains("kindred train adapter"));
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let map = Map { dims: 5, u: (0..10).map(|i| i as f32 / 7.0).collect(), v: (0..10).map(|i| -(i as f32)).collect() };
        let adapter = Adapter { model: "m".to_owned(), map };
        assert_eq!(Adapter::read(&adapter.write()), Ok(adapter.clone()));
        assert_eq!((adapter.rank(), &adapter.write()["rank"]), (2, &json!(2)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let base64 = |numbers: &[f32]| json!(BASE64_STANDARD.encode(numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
        assert!(changed("u", json!("AAA*")).contains("\"u\" is not base64"));
        assert!(changed("v", json!("AAAA")).contains("\"v\" 3"), "three bytes are no number");
        assert!(changed("u", base64(&[1.0, 2.0])).contains("\"u\" has 8 bytes"));
        assert!(changed("v", base64(&[1.0, f32::NAN, 0.0])).contains("number 1 of \"v\""));
        assert!(changed("u", base64(&[f32::INFINITY, 0.0, 0.0])).contains("number 0 of \"u\""));
        assert!(changed("u", base64(&[0.0, 0.0, 1e4])).contains("number 2 of \"u\""));
        assert!(changed("rank", json!(2)).contains("the rank is 2"));
        assert!(changed("rank", json!(0)).contains("from 1 to 64"));
        assert!(changed("rank", json!(-1)).contains("not an adapter"));
        assert!(changed("bias", json!(1)).contains("bias"));
        assert!(Adapter::read(&json!("x")).unwrap_err().to_string().contains("train adapter"));
    }
}
