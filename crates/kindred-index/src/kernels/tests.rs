//! Every instruction set against the portable one, and that one against plain sums.

use half::f16;
use proptest::prelude::*;

use super::*;

/// Pseudo-random numbers (splitmix64), here so that these files can be compiled on their own.
pub(in super::super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// -1 to 1.
    pub fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// All functions of one instruction set.
struct Kernels {
    name: &'static str,
    dot: fn(&[f32], &[f32]) -> f32,
    dot_f16: fn(&[u16], &[f32]) -> f32,
    dot_i8: fn(&[i8], &[f32]) -> f32,
    dot_codes: fn(&[u8], &[i8]) -> i32,
    estimate: fn(LinkGroup<'_>, LinkQuery<'_>, f32, &mut [f32; GROUP]) -> u32,
    fill_tables: fn(&[i16], &mut [u8]),
    mix: fn(&mut [f32], &[f32], std::ops::Range<usize>),
}

macro_rules! kernels {
    ($name:literal, $($module:ident)::+) => {
        #[allow(unused_unsafe, reason = "the portable ones are safe")]
        // SAFETY: only those that the machine was found to have are listed below.
        unsafe {
            Kernels {
                name: $name,
                dot: |a, b| unsafe { $($module)::+::dot(a, b) },
                dot_f16: |a, b| unsafe { $($module)::+::dot_f16(a, b) },
                dot_i8: |a, b| unsafe { $($module)::+::dot_i8(a, b) },
                dot_codes: |a, b| unsafe { $($module)::+::dot_codes(a, b) },
                estimate: |a, b, c, d| unsafe { $($module)::+::estimate(a, b, c, d) },
                fill_tables: |a, b| unsafe { $($module)::+::fill_tables(a, b) },
                mix: |a, b, c| unsafe { $($module)::+::mix(a, b, c) },
            }
        }
    };
}

/// The portable ones first, then all that the machine has.
#[expect(unsafe_code, reason = "as in the dispatch")]
fn all() -> Vec<Kernels> {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
    let mut all = vec![kernels!("portable", portable)];
    #[cfg(target_arch = "x86_64")]
    {
        if x86::level() != x86::Level::Base {
            all.push(kernels!("AVX2", x86::avx2));
        }
        if x86::level() == x86::Level::Avx512 {
            all.push(kernels!("AVX-512", x86::avx512));
        }
    }
    all
}

fn numbers(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.number()).collect()
}

/// Off by no more than the rounding of so many additions.
fn close(actual: f32, exact: f64, size: f64) -> bool {
    (f64::from(actual) - exact).abs() <= 1e-6 * size + 1e-12
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

    #[test]
    fn dot_products_are_sums(seed in any::<u64>(), n in 0usize..if cfg!(miri) { 200 } else { 4_097 }, skip in 0usize..4) {
        let random = &mut Random(seed);
        // A start that is no multiple of a register's width.
        let (a, b) = (&numbers(random, n + skip)[skip..], &numbers(random, n + skip)[skip..]);
        let half: Vec<u16> = a.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
        let small: Vec<i8> = a.iter().map(|x| (x * 127.0) as i8).collect();
        let sums = |x: &dyn Fn(usize) -> f64| {
            let terms = |i| x(i) * f64::from(b[i]);
            ((0..n).map(terms).sum::<f64>(), (0..n).map(|i| terms(i).abs()).sum::<f64>())
        };
        for kernels in all() {
            let (exact, size) = sums(&|i| f64::from(a[i]));
            prop_assert!(close((kernels.dot)(a, b), exact, size), "{}: f32", kernels.name);
            let (exact, size) = sums(&|i| f16::from_bits(half[i]).to_f64());
            prop_assert!(close((kernels.dot_f16)(&half, b), exact, size), "{}: f16", kernels.name);
            let (exact, size) = sums(&|i| f64::from(small[i]));
            prop_assert!(close((kernels.dot_i8)(&small, b), exact, size), "{}: int8", kernels.name);
        }
    }

    #[test]
    fn codes_are_compared_exactly(seed in any::<u64>(), blocks in 0usize..if cfg!(miri) { 3 } else { 65 }) {
        let random = &mut Random(seed);
        let row: Vec<u8> = (0..64 * blocks).map(|_| random.below(256) as u8).collect();
        let query: Vec<i8> = (0..64 * blocks).map(|_| (random.below(255) as i32 - 127) as i8).collect();
        let exact: i32 = row.iter().zip(&query).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
        for kernels in all() {
            prop_assert_eq!((kernels.dot_codes)(&row, &query), exact, "{}", kernels.name);
        }
    }

    #[test]
    fn estimates_are_sums_over_selected_numbers(seed in any::<u64>(), blocks in 1usize..if cfg!(miri) { 3 } else { 65 }) {
        let random = &mut Random(seed);
        let dims = 64 * blocks;
        // As large as they may be, so that no sum in 16 bits could hide an overflow.
        let extreme = random.chance(3);
        let query: Vec<i16> = (0..dims).map(|_| if extreme { 63 } else { random.below(127) as i16 - 63 }).collect();
        let bits: Vec<Vec<bool>> = (0..GROUP).map(|_| (0..dims).map(|_| extreme || random.chance(2)).collect()).collect();
        let (bases, factors) = (numbers(random, GROUP), numbers(random, GROUP));
        let to_half = |numbers: &[f32]| -> [u16; GROUP] { std::array::from_fn(|i| f16::from_f32(numbers[i]).to_bits()) };
        let mut codes = vec![0u8; 4 * dims];
        for (row, bits) in bits.iter().enumerate() {
            for (at, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
                codes[at / 4 * TABLE + row % TABLE] |= 1 << (at % 4 + row / TABLE * 4);
            }
        }
        let least: i32 = query.iter().map(|&x| i32::from(x.min(0))).sum();
        for kernels in all() {
            let mut tables = vec![0; 4 * dims];
            (kernels.fill_tables)(&query, &mut tables);
            let (group_bases, group_factors) = (to_half(&bases), to_half(&factors));
            let group = LinkGroup { bases: &group_bases, factors: &group_factors, codes: &codes };
            // What is taken off every table is added again.
            let asked = LinkQuery { tables: &tables, base: 0.5, scale: 0.25, shift: 0.25 * least as f32 };
            let mut scores = [0.0; GROUP];
            let above = (kernels.estimate)(group, asked, 0.0, &mut scores);
            for row in 0..GROUP {
                let sum: i32 = query.iter().zip(&bits[row]).map(|(&x, &bit)| if bit { i32::from(x) } else { 0 }).sum();
                let half = |bits: u16| f16::from_bits(bits).to_f64();
                let exact = 0.5 + half(group_bases[row]) + half(group_factors[row]) * 0.25 * f64::from(sum);
                prop_assert!((f64::from(scores[row]) - exact).abs() <= 1e-5 * (1.0 + exact.abs()), "{}: {} {exact}", kernels.name, scores[row]);
                prop_assert_eq!(above >> row & 1 == 1, scores[row] > 0.0, "{}", kernels.name);
            }
        }
    }

    #[test]
    fn mixing_keeps_lengths_and_undoes_itself(seed in any::<u64>(), size in 6u32..if cfg!(miri) { 7 } else { 13 }, more in 0usize..4) {
        let random = &mut Random(seed);
        let n = (1 << size) + 16 * more;
        let block = 16 * more..n;
        let vector = numbers(random, n);
        let length = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>();
        for kernels in all() {
            let mut mixed = vector.clone();
            (kernels.mix)(&mut mixed, &vec![-1.0; n], block.clone());
            prop_assert!((length(&mixed) - length(&vector)).abs() <= 1e-4 * length(&vector), "{}", kernels.name);
            prop_assert!(n > 1_024 || mixed[n - 16..].iter().zip(&vector[n - 16..]).any(|(a, b)| (a + b).abs() > 1e-3));
            // The transform is its own inverse, and the signs cancel each other.
            (kernels.mix)(&mut mixed, &vec![-1.0; n], block.clone());
            for (a, b) in mixed.iter().zip(&vector) {
                prop_assert!((a - b).abs() < 1e-3, "{}: {a} {b}", kernels.name);
            }
        }
    }
}

#[test]
fn a_row_that_is_not_there_is_worse_than_any() {
    let (bases, factors, codes, tables) = ([f16::NEG_INFINITY.to_bits(); GROUP], [0; GROUP], [255; 256], [255; 256]);
    let group = LinkGroup { bases: &bases, factors: &factors, codes: &codes };
    let query = LinkQuery { tables: &tables, base: 9.0, scale: 1.0, shift: -3.0 };
    for kernels in all() {
        assert_eq!((kernels.estimate)(group, query, f32::NEG_INFINITY, &mut [0.0; GROUP]), 0, "{}", kernels.name);
    }
}

#[test]
fn short_vectors() {
    for kernels in all() {
        assert_eq!((kernels.dot)(&[], &[]), 0.0, "{}", kernels.name);
        assert_eq!((kernels.dot)(&[3.0], &[-2.0]), -6.0, "{}", kernels.name);
    }
}
