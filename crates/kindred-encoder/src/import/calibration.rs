//! The ranges that the inputs of a model's linear layers take on real text.
//!
//! *On disk* (`calibration.safetensors` in a model folder): for each input two tensors of halves, `<input>.low` and `<input>.high`
//! `[channels]`, and in the metadata `weights_sha256`, the hash of the `model.safetensors` that they were seen with, and `n_texts`.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::ImportError;

const WEIGHTS_SHA256: &str = "weights_sha256";

/// Lowest and highest value of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    pub low: Vec<f32>,
    pub high: Vec<f32>,
}

impl Range {
    fn nothing(width: usize) -> Self {
        Self { low: vec![f32::INFINITY; width], high: vec![f32::NEG_INFINITY; width] }
    }

    /// Widens the range by rows of values `[rows × channels]`.
    fn see(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.low.len()) {
            self.low.iter_mut().zip(row).for_each(|(low, x)| *low = low.min(*x));
            self.high.iter_mut().zip(row).for_each(|(high, x)| *high = high.max(*x));
        }
    }

    /// How far from zero each channel reaches.
    pub fn furthest(&self) -> impl Iterator<Item = f32> {
        self.low.iter().zip(&self.high).map(|(low, high)| high.max(-low))
    }

    /// The range over all channels; zero is always in it.
    pub fn whole(&self) -> (f32, f32) {
        (self.low.iter().copied().fold(0.0, f32::min), self.high.iter().copied().fold(0.0, f32::max))
    }
}

/// The ranges of all inputs of one model's linear layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    ranges: BTreeMap<String, Range>,
    n_texts: usize,
}

impl Calibration {
    /// Nothing seen yet, of inputs with these names and widths.
    pub fn new(inputs: &[(String, usize)]) -> Self {
        Self { ranges: inputs.iter().map(|(name, width)| (name.clone(), Range::nothing(*width))).collect(), n_texts: 0 }
    }

    /// Takes in what a text made of one input: rows `[tokens × channels]`. Other outputs of the model are none of ours.
    pub fn see(&mut self, input: &str, rows: &[f32]) {
        if let Some(range) = self.ranges.get_mut(input) {
            range.see(rows);
        }
    }

    /// Counts a text that was seen.
    pub fn end_text(&mut self) {
        self.n_texts += 1;
    }

    /// The range of one input.
    ///
    /// # Errors
    /// [`ImportError::Calibration`] when there is none of this name and width, or it is not finite.
    pub fn range(&self, input: &str, width: usize) -> Result<Range, ImportError> {
        let refuse = |reason| Err(ImportError::Calibration { reason });
        match self.ranges.get(input) {
            None => refuse(format!("it has no range for {input}")),
            Some(range) if range.low.len() != width => refuse(format!("{input} has {} channels, not {width}", range.low.len())),
            Some(range) if !range.low.iter().chain(&range.high).all(|x| x.is_finite()) => {
                refuse(format!("the range of {input} has no end"))
            }
            Some(range) => Ok(range.clone()),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self, weights_sha256: &str) -> Vec<u8> {
        // Halves are exact enough for a range; what is beyond them stays finite.
        let half = |x: &f32| f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_le_bytes();
        let bytes = |side: &[f32]| side.iter().flat_map(half).collect::<Vec<u8>>();
        let sides =
            |(name, range): (&String, &Range)| [(format!("{name}.low"), bytes(&range.low)), (format!("{name}.high"), bytes(&range.high))];
        let data: Vec<(String, Vec<u8>)> = self.ranges.iter().flat_map(sides).collect();
        let views: Result<Vec<_>, SafeTensorError> =
            data.iter().map(|(name, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F16, vec![bytes.len() / 2], bytes)?))).collect();
        let metadata =
            HashMap::from([(WEIGHTS_SHA256.to_owned(), weights_sha256.to_owned()), ("n_texts".to_owned(), self.n_texts.to_string())]);
        let views = views.expect("every tensor is as long as its shape says");
        safetensors::serialize(views, Some(metadata)).expect("names are few and different")
    }

    /// Reads a file that was made for these weights.
    ///
    /// # Errors
    /// [`ImportError::Calibration`] when it is not one, or was made for others.
    pub fn from_bytes(bytes: &[u8], weights_sha256: &str) -> Result<Self, ImportError> {
        let refuse = |reason: String| ImportError::Calibration { reason };
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| refuse(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| refuse(e.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get(WEIGHTS_SHA256).map(String::as_str) != Some(weights_sha256) {
            return Err(refuse("it was made for other weights".to_owned()));
        }
        let floats = |name: &str| -> Result<Vec<f32>, ImportError> {
            let view = tensors.tensor(name).map_err(|e| refuse(e.to_string()))?;
            if view.dtype() != Dtype::F16 {
                return Err(refuse(format!("{name} holds {:?}, not halves", view.dtype())));
            }
            Ok(view.data().as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect())
        };
        let mut ranges = BTreeMap::new();
        for name in tensors.names().into_iter().filter_map(|name| name.strip_suffix(".low")) {
            ranges.insert(name.to_owned(), Range { low: floats(&format!("{name}.low"))?, high: floats(&format!("{name}.high"))? });
        }
        Ok(Self { ranges, n_texts: metadata.get("n_texts").and_then(|n| n.parse().ok()).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Calibration {
        let mut calibration = Calibration::new(&[("a".to_owned(), 2), ("b".to_owned(), 1)]);
        for (input, rows) in [("a", &[1.0, -2.0, 3.0, 0.5][..]), ("b", &[7.0]), ("a", &[-1.5, 1.0]), ("b", &[1e9]), ("unknown", &[0.0])] {
            calibration.see(input, rows);
        }
        calibration
    }

    #[test]
    fn ranges_are_those_of_all_that_was_seen() {
        let range = seen().range("a", 2).unwrap();
        assert_eq!((range.low.as_slice(), range.high.as_slice()), (&[-1.5, -2.0][..], &[3.0, 1.0][..]));
        assert_eq!((range.whole(), range.furthest().collect::<Vec<_>>()), ((-2.0, 3.0), vec![3.0, 2.0]));
        assert!(seen().range("a", 3).is_err() && seen().range("c", 1).is_err());
        assert!(Calibration::new(&[("a".to_owned(), 1)]).range("a", 1).is_err(), "nothing was seen");
    }

    #[test]
    fn a_file_holds_them_and_belongs_to_its_weights() {
        let bytes = seen().to_bytes("abc");
        let read = Calibration::from_bytes(&bytes, "abc").unwrap();
        assert_eq!(read.range("a", 2).unwrap(), seen().range("a", 2).unwrap());
        assert_eq!(read.range("b", 1).unwrap().high, [65504.0], "beyond halves");
        let other = Calibration::from_bytes(&bytes, "abd").unwrap_err().to_string();
        assert!(other.contains("other weights"), "{other}");
        assert!(Calibration::from_bytes(&bytes[..50], "abc").is_err());
    }
}
