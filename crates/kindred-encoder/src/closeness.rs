//! How close int8 embeddings are to those in fp32, and how close they must be to be used.

use serde::Serialize;

use super::model_folder::{ModelFolder, Precision};
use kindred_core::domain::Embedding;

/// Largest mean distance, 1 - cosine, from fp32. Measured on 120 texts: 0.0009 with exact products, 0.0108 with clamped ones.
const MAX_MEAN_DISTANCE: f64 = 0.002;
/// Largest distance of one text. Measured on the same texts: 0.0019 with exact products, 0.0276 with clamped ones.
const MAX_DISTANCE: f64 = 0.005;

/// The texts of the self-test: few, because each start encodes them, in both precisions; short ones and two of a posting's length.
pub const SELF_TEST_TEXTS: [&str; 8] = [
    "keep patients safe as a nurse on night shift",
    "write software that handles money",
    "fix leaking pipes",
    "Senior Accountant, month-end closing and tax returns",
    "C++",
    "Teaches mathematics to teenagers and plans lessons with other teachers.",
    "Electrician. Installs and repairs wiring, tests circuits with meters, reads blueprints, and follows the safety codes of the city. \
     Works alone and with apprentices, mostly on building sites; needs a driving licence.",
    "Sous-chef for a busy restaurant: prepares sauces, orders vegetables and fish each morning, leads a team of four on the evening shift, \
     keeps the kitchen clean and the menu within its budget.",
];

/// How close two models' embeddings of the same texts are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Closeness {
    pub n_texts: usize,
    pub min_cosine: f64,
    pub mean_cosine: f64,
}

impl Closeness {
    /// Compares embeddings of the same texts in the same order.
    ///
    /// # Panics
    /// When the numbers of embeddings differ.
    pub fn between(exact: &[Embedding], rough: &[Embedding]) -> Self {
        assert_eq!(exact.len(), rough.len(), "both models encode the same texts");
        let cosines = exact.iter().zip(rough).map(|(exact, rough)| f64::from(exact.dot(rough)));
        let (min_cosine, sum) = cosines.fold((1f64, 0f64), |(min, sum), cosine| (min.min(cosine), sum + cosine));
        Self { n_texts: exact.len(), min_cosine, mean_cosine: sum / exact.len().max(1) as f64 }
    }

    /// Whether int8 may stand for fp32.
    pub fn is_close(&self) -> bool {
        self.mean_cosine >= 1.0 - MAX_MEAN_DISTANCE && self.min_cosine >= 1.0 - MAX_DISTANCE
    }

    /// Why the int8 file of this folder is not used, and what to do; `None` where it is close enough.
    pub fn warning(&self, folder: &ModelFolder) -> Option<String> {
        let Self { n_texts, min_cosine, mean_cosine } = *self;
        let (least_mean, least) = (1.0 - MAX_MEAN_DISTANCE, 1.0 - MAX_DISTANCE);
        (!self.is_close()).then(|| {
            format!(
                "{} is not used: on this CPU its embeddings of {n_texts} texts have a mean cosine of {mean_cosine:.4} to those in fp32 \
                 (at least {least_mean:.3} is needed) and a lowest of {min_cosine:.4} (at least {least:.3}). fp32 is used instead, which takes \
                 two to four times as long. Make the file again (`kindred model import --int8`; for the default model, delete its folder \
                 and run `kindred fetch`), or set encoder.precision to \"fp32\"",
                folder.dir().join(Precision::Int8.file()).display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embeddings(of: &[[f32; 2]]) -> Vec<Embedding> {
        of.iter().map(|numbers| Embedding::new(numbers.to_vec(), 2).unwrap()).collect()
    }

    #[test]
    fn both_bounds_count() {
        let exact = embeddings(&[[1.0, 0.0]; 4]);
        let is_close = |tilts: [f32; 4]| Closeness::between(&exact, &embeddings(&tilts.map(|tilt| [1.0, tilt]))).is_close();
        // A tilt of t is a distance of about t² / 2.
        assert!(is_close([0.0; 4]));
        assert!(is_close([0.06; 4]), "0.0018 each");
        assert!(!is_close([0.07; 4]), "0.0024 each: beyond the mean's bound");
        assert!(is_close([0.09, 0.0, 0.0, 0.0]), "0.004 once");
        assert!(!is_close([0.11, 0.0, 0.0, 0.0]), "0.006 once: beyond the bound of one text");
        assert!(!is_close([-30.0; 4]));
    }
}
