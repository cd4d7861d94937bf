//! Dot products of f32 vectors by the widest instructions that the machine has.
//!
//! One body, written over an array of lanes so that the compiler vectorises it, is compiled once per instruction set and chosen
//! at run time. The order of additions differs between them, so scores agree between machines to rounding, not to the bit.

/// Dot product over the shorter of both lengths; the lengths should be equal.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len(), "only vectors of one length are compared");
    #[cfg(target_arch = "x86_64")]
    if let Some(dot) = x86::dot(a, b) {
        return dot;
    }
    portable(a, b)
}

/// Asks for a row's bytes before they are needed; a hint without any other effect.
#[inline]
pub(super) fn prefetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(row);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// What every machine of the architecture can do. NEON, with its fused multiplication, belongs to the base of aarch64.
fn portable(a: &[f32], b: &[f32]) -> f32 {
    lanes::<16, { cfg!(target_arch = "aarch64") }>(a, b)
}

/// Sums in `N` independent lanes, which hide the latency of addition, and then over them. `FUSED` only where the machine has the
/// instruction: elsewhere `mul_add` is a slow library call.
#[inline(always)]
fn lanes<const N: usize, const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let ((a, rest_a), (b, rest_b)) = (a[..n].as_chunks::<N>(), b[..n].as_chunks::<N>());
    let mut sums = [0.0f32; N];
    for (x, y) in a.iter().zip(b) {
        for i in 0..N {
            sums[i] = if FUSED { x[i].mul_add(y[i], sums[i]) } else { sums[i] + x[i] * y[i] };
        }
    }
    // Beside the lanes, which would have to leave their registers to be indexed by what is left over.
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(x, y)| x * y).sum();
    // By halves, which stays vectorised down to the last few.
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0] + rest
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    /// Numbers in a cache line of 64 bytes.
    const LINE: usize = 16;
    /// Lines worth asking for: the hardware guesses the rest of a longer row by itself.
    const MAX_LINES: usize = 24;

    /// `None` where the machine has neither instruction set.
    #[inline]
    #[expect(unsafe_code, reason = "functions compiled for an instruction set can only be called where it is known to exist")]
    pub(super) fn dot(a: &[f32], b: &[f32]) -> Option<f32> {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
            // SAFETY: the line above found both instruction sets that the function is compiled for.
            Some(unsafe { avx512(a, b) })
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            Some(unsafe { avx2(a, b) })
        } else {
            None
        }
    }

    #[target_feature(enable = "avx512f,fma")]
    pub(super) fn avx512(a: &[f32], b: &[f32]) -> f32 {
        super::lanes::<64, true>(a, b)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(a: &[f32], b: &[f32]) -> f32 {
        super::lanes::<32, true>(a, b)
    }

    #[inline]
    #[expect(unsafe_code, reason = "the intrinsic takes a raw pointer")]
    pub(super) fn prefetch(row: &[f32]) {
        for line in row.chunks(LINE).take(MAX_LINES) {
            // SAFETY: prefetching reads nothing and cannot fault, whatever the address; SSE belongs to the base of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Kernel = fn(&[f32], &[f32]) -> f32;

    fn kernels() -> Vec<(&'static str, Kernel)> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
        let mut kernels: Vec<(&'static str, Kernel)> = vec![("dispatched", dot), ("portable", portable)];
        #[cfg(target_arch = "x86_64")]
        kernels.extend(instruction_sets());
        kernels
    }

    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "as in dot")]
    fn instruction_sets() -> Vec<(&'static str, Kernel)> {
        let mut kernels: Vec<(&'static str, Kernel)> = Vec::new();
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
            // SAFETY: just detected.
            kernels.push(("avx2", |a, b| unsafe { x86::avx2(a, b) }));
        }
        if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx512f") {
            // SAFETY: just detected.
            kernels.push(("avx512", |a, b| unsafe { x86::avx512(a, b) }));
        }
        kernels
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn kernels_agree_with_f64(pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 0..4096), skip in 0usize..4) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            // A start that is no multiple of a register's width.
            let (a, b) = (&a[skip.min(a.len())..], &b[skip.min(b.len())..]);
            let exact: f64 = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            let size: f64 = a.iter().zip(b).map(|(&x, &y)| (f64::from(x) * f64::from(y)).abs()).sum();
            for (name, kernel) in kernels() {
                let error = (f64::from(kernel(a, b)) - exact).abs();
                prop_assert!(error <= 1e-6 * size + 1e-12, "{name}: off by {error} at {} numbers", a.len());
            }
        }
    }

    #[test]
    fn short_vectors() {
        for (name, kernel) in kernels() {
            assert_eq!(kernel(&[], &[]), 0.0, "{name}");
            assert_eq!(kernel(&[3.0], &[-2.0]), -6.0, "{name}");
        }
    }
}
