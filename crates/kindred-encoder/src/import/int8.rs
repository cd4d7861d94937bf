//! A linear layer in bytes, with scales that do not depend on what it is given together: so a text's embedding does not either.
//!
//! - Weights: one scale per output channel, symmetric.
//! - Inputs: one scale and zero for all, from the ranges seen in calibration ([`super::calibration`]).
//! - Outliers: of what the activation function puts out, a few channels reach several times further than all others. They are multiplied in
//!   f32 beside the rest, whose scale they would have coarsened.
//! - Smoothing: elsewhere, some input channels reach much further than others and would take all of the scale. Each is divided by a factor, and its row
//!   of the weights is multiplied by it, so that both sides are about as hard to quantise.
//!
//! *Source*: Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", equations 3 and 4;
//! Dettmers et al. 2022, "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", section 3.2, with channels chosen beforehand.

use super::calibration::Range;

/// How much of the difficulty the weights take over (α): measured on held-out postings and queries, 0.7 to 0.9 are alike.
const ALPHA: f32 = 0.8;
/// The same where attention's output layer takes over from the values, which costs nothing at run time.
pub const VALUE_ALPHA: f32 = 0.5;
/// One input channel in so many is an outlier: 32 of 1,536. Measured: 16 halve the error of all of int8, 128 take little more away.
const OUTLIERS_OF: usize = 48;
/// Below this, a channel counts as silent.
const SILENT: f32 = 1e-5;

/// The factor of each input channel.
pub struct Smoothing(Vec<f32>);

impl Smoothing {
    /// Chooses factors for a layer with weights `[n_in × n_out]`.
    pub fn of(range: &Range, weight: &[f32], n_out: usize, alpha: f32) -> Self {
        let rows = weight.chunks_exact(n_out);
        let raw: Vec<f32> = range
            .furthest()
            .zip(rows)
            .map(|(input, row)| {
                let weight = row.iter().fold(SILENT, |most, w| most.max(w.abs()));
                input.max(SILENT).powf(alpha) / weight.powf(1.0 - alpha)
            })
            .collect();
        // Only their relation matters; around one they keep the weights' size.
        let mean = (raw.iter().map(|x| f64::from(x.ln())).sum::<f64>() / raw.len().max(1) as f64).exp() as f32;
        Self(raw.into_iter().map(|x| (x / mean).max(1e-4)).collect())
    }

    /// Multiplies each input channel's row of the weights by its factor; returns the range of the divided input.
    pub fn multiply_rows(&self, weight: &mut [f32], mut range: Range) -> Range {
        let n_out = weight.len() / self.0.len();
        for (row, factor) in weight.chunks_exact_mut(n_out).zip(&self.0) {
            row.iter_mut().for_each(|w| *w *= factor);
        }
        for side in [&mut range.low, &mut range.high] {
            side.iter_mut().zip(&self.0).for_each(|(x, factor)| *x /= factor);
        }
        range
    }

    /// Divides what another layer puts out: its weights `[n_out × n_in]` and its bias.
    pub fn divide_rows(&self, weight: &mut [f32], bias: &mut [f32]) {
        let n_in = weight.len() / self.0.len();
        for ((row, bias), factor) in weight.chunks_exact_mut(n_in).zip(bias).zip(&self.0) {
            row.iter_mut().for_each(|w| *w /= factor);
            *bias /= factor;
        }
    }
}

/// The input channels that reach furthest, taken out of a layer.
pub struct Outliers {
    /// Their numbers, ascending.
    pub channels: Vec<i64>,
    /// Their weights `[channels × n_out]`.
    pub weight: Vec<f32>,
}

impl Outliers {
    /// Takes them out of the weights `[n_in × n_out]` and out of the range; zero is left in their place.
    pub fn take(weight: &mut [f32], range: &mut Range, n_out: usize) -> Self {
        let furthest: Vec<f32> = range.furthest().collect();
        let mut channels: Vec<usize> = (0..furthest.len()).collect();
        channels.sort_by(|a, b| furthest[*b].total_cmp(&furthest[*a]));
        channels.truncate((furthest.len() / OUTLIERS_OF).max(1));
        channels.sort_unstable();
        let mut taken = Vec::with_capacity(channels.len() * n_out);
        for &channel in &channels {
            let row = &mut weight[channel * n_out..][..n_out];
            taken.extend_from_slice(row);
            row.fill(0.0);
            (range.low[channel], range.high[channel]) = (0.0, 0.0);
        }
        Self { channels: channels.into_iter().map(|channel| channel as i64).collect(), weight: taken }
    }
}

/// A quantised layer.
pub struct Layer {
    /// `(n_in, n_out)`.
    pub shape: (usize, usize),
    /// What the input's channels are multiplied by first.
    pub input_factors: Option<Vec<f32>>,
    pub input_scale: f32,
    pub input_zero: u8,
    /// `[n_in × n_out]`.
    pub weight: Vec<i8>,
    /// `[n_out]`.
    pub weight_scale: Vec<f32>,
}

impl Layer {
    /// Smooths and quantises a layer with weights `[n_in × n_out]`, whose input has this range.
    pub fn smoothed(weight: &[f32], shape: (usize, usize), range: &Range) -> Self {
        let smoothing = Smoothing::of(range, weight, shape.1, ALPHA);
        let mut weight = weight.to_vec();
        let range = smoothing.multiply_rows(&mut weight, range.clone());
        let factors = smoothing.0.iter().map(|factor| 1.0 / factor).collect();
        Self::of(&weight, shape, &range, Some(factors))
    }

    /// Quantises a layer as it is.
    pub fn of(weight: &[f32], shape: (usize, usize), range: &Range, input_factors: Option<Vec<f32>>) -> Self {
        let (low, high) = range.whole();
        let input_scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
        let mut weight_scale = vec![0f32; shape.1];
        for row in weight.chunks_exact(shape.1) {
            weight_scale.iter_mut().zip(row).for_each(|(most, w)| *most = most.max(w.abs()));
        }
        weight_scale.iter_mut().for_each(|most| *most = (*most / 127.0).max(f32::MIN_POSITIVE));
        let quantize = |(w, scale): (&f32, &f32)| (w / scale).round().clamp(-127.0, 127.0) as i8;
        Self {
            shape,
            input_factors,
            input_scale,
            input_zero: (-low / input_scale).round().clamp(0.0, 255.0) as u8,
            weight: weight.chunks_exact(shape.1).flat_map(|row| row.iter().zip(&weight_scale).map(quantize)).collect(),
            weight_scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two inputs, three outputs; the first input reaches a hundred times further.
    const WEIGHT: [f32; 6] = [0.1, -0.2, 0.3, 1.0, 2.0, -3.0];

    fn range() -> Range {
        Range { low: vec![-100.0, -1.0], high: vec![50.0, 1.0] }
    }

    /// What the quantised layer makes of an input.
    fn apply(layer: &Layer, input: [f32; 2]) -> Vec<f32> {
        let factors = layer.input_factors.clone().unwrap_or(vec![1.0; 2]);
        let zero = i32::from(layer.input_zero);
        let bytes = [0, 1].map(|i| ((input[i] * factors[i] / layer.input_scale).round() as i32 + zero).clamp(0, 255) - zero);
        let sum = |out: usize| bytes.iter().enumerate().map(|(i, x)| x * i32::from(layer.weight[i * 3 + out])).sum::<i32>();
        (0..3).map(|out| sum(out) as f32 * layer.input_scale * layer.weight_scale[out]).collect()
    }

    #[test]
    fn smoothing_keeps_the_quiet_channel_audible() {
        let (input, exact) = ([0.0, 0.3], [0.3, 0.6, -0.9]);
        let error = |layer: &Layer| apply(layer, input).iter().zip(exact).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
        let (rough, smooth) = (Layer::of(&WEIGHT, (2, 3), &range(), None), Layer::smoothed(&WEIGHT, (2, 3), &range()));
        assert!(error(&rough) > 0.2, "a step of {} swallows 0.3", rough.input_scale);
        assert!(error(&smooth) < 0.05, "{}", error(&smooth));
    }

    #[test]
    fn what_one_layer_divides_the_next_multiplies() {
        let (mut next, mut before, mut bias) = (WEIGHT.to_vec(), vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]);
        let smoothing = Smoothing::of(&range(), &next, 3, VALUE_ALPHA);
        let narrowed = smoothing.multiply_rows(&mut next, range());
        smoothing.divide_rows(&mut before, &mut bias);
        for (i, factor) in smoothing.0.iter().enumerate() {
            assert!((next[i * 3] / WEIGHT[i * 3] - factor).abs() < 1e-5);
            assert!((before[i * 2] * factor - (1.0 + 2.0 * i as f32)).abs() < 1e-5);
            assert!((bias[i] * factor - (5.0 + i as f32)).abs() < 1e-5);
            assert!((narrowed.low[i] * factor - range().low[i]).abs() < 1e-4);
        }
    }

    #[test]
    fn outliers_leave_the_scale_to_the_others() {
        let (mut weight, mut range) = (WEIGHT.to_vec(), range());
        let outliers = Outliers::take(&mut weight, &mut range, 3);
        assert_eq!((outliers.channels.as_slice(), outliers.weight.as_slice()), (&[0][..], &WEIGHT[..3]));
        assert_eq!((&weight[..3], &weight[3..], range.whole()), (&[0.0; 3][..], &WEIGHT[3..], (-1.0, 1.0)));
        let layer = Layer::of(&weight, (2, 3), &range, None);
        // Whatever the outlier's byte is, it counts for nothing here.
        let rest = apply(&layer, [-100.0, 0.3]);
        assert!(rest.iter().zip([0.3, 0.6, -0.9]).all(|(a, e)| (a - e).abs() < 0.02), "{rest:?}");
    }

    #[test]
    fn a_silent_layer_is_no_division_by_zero() {
        let range = Range { low: vec![0.0; 2], high: vec![0.0; 2] };
        let layer = Layer::smoothed(&[0.0; 6], (2, 3), &range);
        assert!(layer.input_scale > 0.0 && layer.weight_scale.iter().all(|scale| scale.is_finite() && *scale > 0.0));
        assert!(apply(&layer, [0.0, 0.0]).iter().all(|x| *x == 0.0));
    }
}
