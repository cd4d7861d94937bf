//! What every machine can do, and the bodies that other instruction sets compile anew.

use half::f16;

use super::{GROUP, LinkGroup, LinkQuery, TABLE};

/// Whether the base of the architecture has fused multiplication: elsewhere it is a slow library call.
const FUSED: bool = cfg!(target_arch = "aarch64");
/// Tables whose entries, at most 252 each, can be added up in 16 bits.
pub(super) const TABLES_PER_SUM: usize = 256;

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    lanes::<16, FUSED, f32>(a, b, |x| x)
}

pub(super) fn dot_f16(row: &[u16], query: &[f32]) -> f32 {
    lanes::<16, FUSED, u16>(row, query, |bits| f16::from_bits(bits).to_f32())
}

pub(super) fn dot_i8(row: &[i8], query: &[f32]) -> f32 {
    lanes::<16, FUSED, i8>(row, query, f32::from)
}

pub(super) fn dot_codes(row: &[u8], query: &[i8]) -> i32 {
    dot_codes_lanes::<16>(row, query)
}

pub(super) fn estimate(group: LinkGroup<'_>, query: LinkQuery<'_>, worst: f32, scores: &mut [f32; GROUP]) -> u32 {
    let (bases, factors) = (widen(group.bases), widen(group.factors));
    let mut sums = [0u32; GROUP];
    for (codes, table) in group.codes.as_chunks::<TABLE>().0.iter().zip(query.tables.as_chunks::<TABLE>().0) {
        for (row, code) in codes.iter().enumerate() {
            sums[row] += u32::from(table[usize::from(code & 15)]);
            sums[row + TABLE] += u32::from(table[usize::from(code >> 4)]);
        }
    }
    finish(&bases, &factors, &sums, query, worst, scores)
}

pub(super) fn fill_tables(numbers: &[i16], tables: &mut [u8]) {
    fill(numbers, tables);
}

pub(super) fn mix(numbers: &mut [f32], signs: &[f32], block: std::ops::Range<usize>) {
    mix_lanes::<FUSED>(numbers, signs, block);
}

fn widen(bits: &[u16; GROUP]) -> [f32; GROUP] {
    bits.map(|bits| f16::from_bits(bits).to_f32())
}

/// Sums in `N` independent lanes, which hide the latency of addition, and then over them.
#[inline(always)]
pub(super) fn lanes<const N: usize, const FUSED: bool, T: Copy>(a: &[T], b: &[f32], widen: impl Fn(T) -> f32) -> f32 {
    let n = a.len().min(b.len());
    let ((a, rest_a), (b, rest_b)) = (a[..n].as_chunks::<N>(), b[..n].as_chunks::<N>());
    let mut sums = [0.0f32; N];
    for (x, y) in a.iter().zip(b) {
        for i in 0..N {
            sums[i] = if FUSED { widen(x[i]).mul_add(y[i], sums[i]) } else { sums[i] + widen(x[i]) * y[i] };
        }
    }
    // Beside the lanes, which would have to leave their registers to be indexed by what is left over.
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(&x, y)| widen(x) * y).sum();
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

#[inline(always)]
pub(super) fn dot_codes_lanes<const N: usize>(row: &[u8], query: &[i8]) -> i32 {
    let mut sums = [0i32; N];
    for (x, y) in row.as_chunks::<N>().0.iter().zip(query.as_chunks::<N>().0) {
        for i in 0..N {
            sums[i] += i32::from(x[i]) * i32::from(y[i]);
        }
    }
    sums.iter().sum()
}

/// Sums of table entries to scores, and which of these are above `worst`.
#[inline(always)]
pub(super) fn finish(
    bases: &[f32; GROUP],
    factors: &[f32; GROUP],
    sums: &[u32; GROUP],
    query: LinkQuery<'_>,
    worst: f32,
    scores: &mut [f32; GROUP],
) -> u32 {
    for row in 0..GROUP {
        // Below 2^24, so the conversion is exact; through i32, which more instruction sets convert.
        scores[row] = query.base + bases[row] + factors[row] * (query.scale * sums[row] as i32 as f32 + query.shift);
    }
    let mut above = 0;
    for (row, &score) in scores.iter().enumerate() {
        above |= u32::from(score > worst) << row;
    }
    above
}

#[inline(always)]
pub(super) fn fill(numbers: &[i16], tables: &mut [u8]) {
    for (&[a, b, c, d], table) in numbers.as_chunks::<4>().0.iter().zip(tables.as_chunks_mut::<TABLE>().0) {
        // The least sum of all patterns counts as 0.
        let least = a.min(0) + b.min(0) + c.min(0) + d.min(0);
        let mut sums = [-least; TABLE];
        for (pattern, sum) in sums.iter_mut().enumerate() {
            let pattern = pattern as i16;
            *sum += (-(pattern & 1) & a) + (-(pattern >> 1 & 1) & b) + (-(pattern >> 2 & 1) & c) + (-(pattern >> 3 & 1) & d);
        }
        for (entry, sum) in table.iter_mut().zip(sums) {
            *entry = sum as u8;
        }
    }
}

/// Signs of the transform of 16 numbers: row `j` is what number `j` adds to each.
const SIGNS: [[f32; 16]; 16] = {
    let mut signs = [[1.0; 16]; 16];
    let mut j = 0usize;
    while j < 16 {
        let mut i = 0usize;
        while i < 16 {
            if (i & j).count_ones() % 2 == 1 {
                signs[j][i] = -1.0;
            }
            i += 1;
        }
        j += 1;
    }
    signs
};

#[inline(always)]
pub(super) fn mix_lanes<const FUSED: bool>(numbers: &mut [f32], signs: &[f32], block: std::ops::Range<usize>) {
    for (x, sign) in numbers.iter_mut().zip(signs) {
        *x *= sign;
    }
    let block = &mut numbers[block];
    let scale = 1.0 / (block.len() as f32).sqrt();
    // Strides below a register's width at once, as a small matrix.
    for x in block.as_chunks_mut::<16>().0 {
        let mut mixed = [0.0f32; 16];
        for j in 0..16 {
            let xj = x[j] * scale;
            for i in 0..16 {
                mixed[i] = if FUSED { SIGNS[j][i].mul_add(xj, mixed[i]) } else { mixed[i] + SIGNS[j][i] * xj };
            }
        }
        *x = mixed;
    }
    let mut stride = 16;
    while stride < block.len() {
        for pair in block.chunks_exact_mut(2 * stride) {
            let (low, high) = pair.split_at_mut(stride);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        stride *= 2;
    }
}
