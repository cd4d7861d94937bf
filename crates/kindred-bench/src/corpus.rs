//! Documents to measure a server with, drawn from numbers: any of them can be made again, and none has to be kept.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::vectors::Vectors;
use kindred_core::domain::Choice;

/// Kinds of documents among drawn vectors: embeddings lie in clusters, and searching among those that lie anywhere is another task.
const CLUSTERS: u64 = 1_000;
/// What a number of a unit vector is multiplied with, to be written as a whole one.
const SCALE: f32 = 4_096.0;

/// Where vectors and texts come from.
#[derive(Debug)]
pub(super) struct Corpus {
    dims: usize,
    base: Option<Vectors>,
}

impl Corpus {
    /// Vectors near those of a file (.fvecs or .npy), or drawn ones.
    ///
    /// # Errors
    /// A file that cannot be read, or is of another model.
    pub fn new(base: Option<&Path>, dims: usize) -> Result<Self> {
        let base = base.map(Vectors::read).transpose()?;
        if let Some(base) = &base {
            ensure!(base.dims == dims, "the vectors have {} dimensions, those of the server's model {dims}", base.dims);
        }
        Ok(Self { dims, base })
    }

    /// The vector of a number, in whole numbers: they are short to write.
    pub fn vector(&self, number: u64) -> Vec<i32> {
        let mut noise = Choice::new("noise", number);
        if let Some(base) = &self.base {
            let row = base.row((number % base.n_rows() as u64) as usize);
            // The file's own vectors come first; what is near them follows.
            let width = if number < base.n_rows() as u64 { 0 } else { 60 };
            return row.iter().map(|x| (x * SCALE) as i32 + noise.below(2 * width + 1) as i32 - width as i32).collect();
        }
        let centre = drawn(Choice::new("centre", number).next_u64() % CLUSTERS, self.dims);
        centre.into_iter().map(|x| 2 * x + noise.below(199) as i32 - 99).collect()
    }

    /// The text of a number.
    pub fn text(&self, number: u64) -> String {
        const ROLES: [&str; 8] =
            ["nurse", "welder", "backend engineer", "teacher", "pastry chef", "accountant", "truck driver", "architect"];
        const WORK: [&str; 8] = [
            "night shifts",
            "a small team",
            "an old harbour",
            "heavy machines",
            "young people",
            "a growing company",
            "public offices",
            "trains",
        ];
        const SKILLS: [&str; 8] = [
            "reads drawings",
            "speaks three languages",
            "keeps calm",
            "plans ahead",
            "writes clearly",
            "lifts loads",
            "teaches others",
            "sells",
        ];
        let mut choice = Choice::new("text", number);
        let mut pick = |words: &[&'static str; 8]| *choice.pick(words);
        format!("{} who {} and works with {}, reference {number}", pick(&ROLES), pick(&SKILLS), pick(&WORK))
    }

    /// A document as it is sent: with its vector, or with its text only.
    pub fn item(&self, id: u64, number: u64, with_vector: bool) -> Value {
        let mut item = json!({"id": id.to_string(), "title": self.text(number), "number": number});
        if with_vector {
            item["embedding"] = json!(self.vector(number));
        }
        item
    }

    /// What makes a collection of such documents.
    pub fn definition() -> Value {
        json!({"template": "{title}", "fields": {"title": {"type": "text"}, "number": {"type": "number", "index": true}}})
    }
}

/// A vector of small whole numbers; any two are almost at right angles.
pub(super) fn drawn(number: u64, dims: usize) -> Vec<i32> {
    let mut choice = Choice::new("vector", number);
    (0..dims).map(|_| choice.below(199) as i32 - 99).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_document_and_another_another() {
        let corpus = Corpus::new(None, 16).unwrap();
        assert_eq!(corpus.item(1, 7, true), corpus.item(1, 7, true));
        assert_ne!(corpus.vector(7), corpus.vector(8));
        assert_ne!(corpus.text(7), corpus.text(8));
        assert!(corpus.item(1, 7, false).get("embedding").is_none());
    }

    #[test]
    fn a_file_s_vectors_come_first_and_then_what_is_near_them() {
        let base = Some(Vectors { dims: 2, numbers: vec![1.0, 0.0, 0.6, -0.8] });
        let corpus = Corpus { dims: 2, base };
        assert_eq!((corpus.vector(0), corpus.vector(1)), (vec![4096, 0], vec![2457, -3276]));
        let near = corpus.vector(2);
        assert!(near != corpus.vector(0) && (near[0] - 4096).abs() <= 60 && near[1].abs() <= 60, "{near:?}");
    }
}
