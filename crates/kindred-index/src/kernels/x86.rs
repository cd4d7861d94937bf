//! AVX2, and AVX-512 with VNNI: the bodies of `portable.rs` compiled anew, and intrinsics where the compiler does not find them.

use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::portable::{self, TABLES_PER_SUM};
use super::{GROUP, LinkGroup, LinkQuery, TABLE};

/// Instruction sets, as complete as the bodies need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Avx512,
    Avx2,
    Base,
}

/// The best that the machine has.
#[inline]
pub(super) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        let has_avx512 = has_avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        match (has_avx512, has_avx2) {
            (true, _) => Level::Avx512,
            (false, true) => Level::Avx2,
            (false, false) => Level::Base,
        }
    })
}

/// Bytes of a cache line.
const LINE: usize = 64;

#[inline]
#[expect(unsafe_code, reason = "the intrinsic takes a raw pointer")]
pub(super) fn prefetch(start: *const u8, len: usize) {
    for offset in (0..len).step_by(LINE) {
        // SAFETY: prefetching reads nothing and cannot fault, whatever the address; SSE belongs to the base of x86-64. Into the
        // second cache: the first has too few slots for lines under way.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(offset).cast()) };
    }
}

pub(super) mod avx512 {
    use super::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(in super::super) fn dot(a: &[f32], b: &[f32]) -> f32 {
        portable::lanes::<64, true, f32>(a, b, |x| x)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(in super::super) fn dot_f16(row: &[u16], query: &[f32]) -> f32 {
        let n = row.len().min(query.len());
        let ((row, row_rest), (query, query_rest)) = (row[..n].as_chunks::<32>(), query[..n].as_chunks::<32>());
        let mut sums = [_mm512_setzero_ps(); 2];
        for (row, query) in row.iter().zip(query) {
            let row: [__m256i; 2] = bytemuck::cast(*row);
            let query: [__m512; 2] = bytemuck::cast(*query);
            for i in 0..2 {
                sums[i] = _mm512_fmadd_ps(_mm512_cvtph_ps(row[i]), query[i], sums[i]);
            }
        }
        _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) + portable::dot_f16(row_rest, query_rest)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(in super::super) fn dot_i8(row: &[i8], query: &[f32]) -> f32 {
        portable::lanes::<64, true, i8>(row, query, f32::from)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(in super::super) fn dot_codes(row: &[u8], query: &[i8]) -> i32 {
        let mut sums = [_mm512_setzero_si512(); 2];
        for (i, (row, query)) in row.as_chunks::<64>().0.iter().zip(query.as_chunks::<64>().0).enumerate() {
            sums[i % 2] = _mm512_dpbusd_epi32(sums[i % 2], bytemuck::cast(*row), bytemuck::cast(*query));
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(in super::super) fn estimate(group: LinkGroup<'_>, query: LinkQuery<'_>, worst: f32, scores: &mut [f32; GROUP]) -> u32 {
        let mut sums = [_mm512_setzero_si512(); 2];
        for (codes, tables) in group.codes.chunks(TABLES_PER_SUM * TABLE).zip(query.tables.chunks(TABLES_PER_SUM * TABLE)) {
            let part = sum_tables(codes, tables);
            sums[0] = _mm512_add_epi32(sums[0], _mm512_cvtepu16_epi32(part[0]));
            sums[1] = _mm512_add_epi32(sums[1], _mm512_cvtepu16_epi32(part[1]));
        }
        let bases: [__m256i; 2] = bytemuck::cast(*group.bases);
        let factors: [__m256i; 2] = bytemuck::cast(*group.factors);
        let (halves, mut above) = (scores.as_chunks_mut::<16>().0, 0);
        for i in 0..2 {
            let selected = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i]), _mm512_set1_ps(query.scale), _mm512_set1_ps(query.shift));
            let base = _mm512_add_ps(_mm512_cvtph_ps(bases[i]), _mm512_set1_ps(query.base));
            let score = _mm512_fmadd_ps(_mm512_cvtph_ps(factors[i]), selected, base);
            halves[i] = bytemuck::cast(score);
            above |= u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(score, _mm512_set1_ps(worst))) << (16 * i);
        }
        above
    }

    /// Sums over at most 256 tables, 16 bits each: rows 0 to 15, rows 16 to 31.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn sum_tables(codes: &[u8], tables: &[u8]) -> [__m256i; 2] {
        let low_half = _mm512_set1_epi8(15);
        // Of even rows, with those of odd rows times 256 on top; and of odd rows alone.
        let (mut both, mut odd) = ([_mm512_setzero_si512(); 2], [_mm512_setzero_si512(); 2]);
        for (codes, tables) in codes.as_chunks::<64>().0.iter().zip(tables.as_chunks::<64>().0) {
            let (codes, tables): (__m512i, __m512i) = (bytemuck::cast(*codes), bytemuck::cast(*tables));
            let low = _mm512_and_si512(codes, low_half);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_half);
            for (i, codes) in [low, high].into_iter().enumerate() {
                let entries = _mm512_shuffle_epi8(tables, codes);
                both[i] = _mm512_add_epi16(both[i], entries);
                odd[i] = _mm512_add_epi16(odd[i], _mm512_srli_epi16::<8>(entries));
            }
        }
        let mut sums = [_mm256_setzero_si256(); 2];
        for i in 0..2 {
            let even = fold(_mm512_sub_epi16(both[i], _mm512_slli_epi16::<8>(odd[i])));
            let odd = fold(odd[i]);
            sums[i] = _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd));
        }
        sums
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn fold(x: __m512i) -> __m128i {
        let half = _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
        _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(in super::super) fn fill_tables(numbers: &[i16], tables: &mut [u8]) {
        portable::fill(numbers, tables);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(in super::super) fn mix(numbers: &mut [f32], signs: &[f32], block: std::ops::Range<usize>) {
        portable::mix_lanes::<true>(numbers, signs, block);
    }
}

pub(super) mod avx2 {
    use super::*;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in super::super) fn dot(a: &[f32], b: &[f32]) -> f32 {
        portable::lanes::<32, true, f32>(a, b, |x| x)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in super::super) fn dot_f16(row: &[u16], query: &[f32]) -> f32 {
        let n = row.len().min(query.len());
        let ((row, row_rest), (query, query_rest)) = (row[..n].as_chunks::<32>(), query[..n].as_chunks::<32>());
        let mut sums = [_mm256_setzero_ps(); 4];
        for (row, query) in row.iter().zip(query) {
            let row: [__m128i; 4] = bytemuck::cast(*row);
            let query: [__m256; 4] = bytemuck::cast(*query);
            for i in 0..4 {
                sums[i] = _mm256_fmadd_ps(_mm256_cvtph_ps(row[i]), query[i], sums[i]);
            }
        }
        let sums: [f32; 32] = bytemuck::cast(sums);
        sums.iter().sum::<f32>() + portable::dot_f16(row_rest, query_rest)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in super::super) fn dot_i8(row: &[i8], query: &[f32]) -> f32 {
        portable::lanes::<32, true, i8>(row, query, f32::from)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in super::super) fn dot_codes(row: &[u8], query: &[i8]) -> i32 {
        portable::dot_codes_lanes::<32>(row, query)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in super::super) fn estimate(group: LinkGroup<'_>, query: LinkQuery<'_>, worst: f32, scores: &mut [f32; GROUP]) -> u32 {
        let mut sums = [0u32; GROUP];
        for (codes, tables) in group.codes.chunks(TABLES_PER_SUM * TABLE).zip(query.tables.chunks(TABLES_PER_SUM * TABLE)) {
            let part: [u16; GROUP] = bytemuck::cast(sum_tables(codes, tables));
            for row in 0..GROUP {
                sums[row] += u32::from(part[row]);
            }
        }
        portable::finish(&widen(group.bases), &widen(group.factors), &sums, query, worst, scores)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn widen(bits: &[u16; GROUP]) -> [f32; GROUP] {
        let bits: [__m128i; 4] = bytemuck::cast(*bits);
        bytemuck::cast([_mm256_cvtph_ps(bits[0]), _mm256_cvtph_ps(bits[1]), _mm256_cvtph_ps(bits[2]), _mm256_cvtph_ps(bits[3])])
    }

    /// Sums over at most 256 tables, 16 bits each: rows 0 to 15, rows 16 to 31.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn sum_tables(codes: &[u8], tables: &[u8]) -> [__m256i; 2] {
        let low_half = _mm256_set1_epi8(15);
        // Of even rows, with those of odd rows times 256 on top; and of odd rows alone.
        let (mut both, mut odd) = ([_mm256_setzero_si256(); 2], [_mm256_setzero_si256(); 2]);
        for (codes, tables) in codes.as_chunks::<32>().0.iter().zip(tables.as_chunks::<32>().0) {
            let (codes, tables): (__m256i, __m256i) = (bytemuck::cast(*codes), bytemuck::cast(*tables));
            let low = _mm256_and_si256(codes, low_half);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half);
            for (i, codes) in [low, high].into_iter().enumerate() {
                let entries = _mm256_shuffle_epi8(tables, codes);
                both[i] = _mm256_add_epi16(both[i], entries);
                odd[i] = _mm256_add_epi16(odd[i], _mm256_srli_epi16::<8>(entries));
            }
        }
        let mut sums = [_mm256_setzero_si256(); 2];
        for i in 0..2 {
            let even = fold(_mm256_sub_epi16(both[i], _mm256_slli_epi16::<8>(odd[i])));
            let odd = fold(odd[i]);
            sums[i] = _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd));
        }
        sums
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn fold(x: __m256i) -> __m128i {
        _mm_add_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in super::super) fn fill_tables(numbers: &[i16], tables: &mut [u8]) {
        portable::fill(numbers, tables);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in super::super) fn mix(numbers: &mut [f32], signs: &[f32], block: std::ops::Range<usize>) {
        portable::mix_lanes::<true>(numbers, signs, block);
    }
}
