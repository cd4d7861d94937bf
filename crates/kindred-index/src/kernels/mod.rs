//! Scores of vectors and codes by the widest instructions that the machine has; one of the two places with `unsafe`.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | picks the instruction set once, calls into it |
//! | `portable.rs` | what every machine can do; the others are held against it |
//! | `x86.rs` | AVX2 and AVX-512 with VNNI |
//!
//! Most bodies are written once over arrays of lanes, so that the compiler vectorises them, and are compiled once per instruction
//! set. Where it does not find the instruction (`vpdpbusd`, `vpshufb`), the intrinsic is named. Nothing here handles a pointer:
//! registers are filled from arrays, so that the only thing to promise is that the machine has the instructions. On aarch64
//! the portable bodies compile to NEON, which belongs to its base.
//!
//! The order of additions of f32 differs between instruction sets, so such scores agree between machines to rounding, not to
//! the bit. Scores of codes are whole numbers and agree exactly.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Rows whose estimates are computed at once.
pub(super) const GROUP: usize = 32;
/// Bytes of a table of one quarter-byte code: 16 values, one for each of its patterns.
pub(super) const TABLE: usize = 16;

/// Thirty-two linked rows as they lie in a node: what turns sums of table entries into scores, and the codes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkGroup<'a> {
    /// f16 bits: the score without the part that the codes tell.
    pub bases: &'a [u16; GROUP],
    /// f16 bits: how much the codes count.
    pub factors: &'a [u16; GROUP],
    /// `[dims / 4 × 16]`: byte `i` of a quarter's 16 holds rows `i` (low half) and `i + 16` (high half).
    pub codes: &'a [u8],
}

/// A query's part in estimating: score = base + `base` + factor · (`scale` · sum + `shift`).
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkQuery<'a> {
    /// `[dims / 4 × 16]`: for each quarter-byte code, the sum of the query's numbers that each pattern selects, from 0 on.
    pub tables: &'a [u8],
    pub base: f32,
    pub scale: f32,
    pub shift: f32,
}

/// The instructions that scores are computed with, and whether they are fewer than a machine of this kind may have.
pub fn instructions() -> (&'static str, bool) {
    #[cfg(target_arch = "x86_64")]
    return match x86::level() {
        x86::Level::Avx512 => ("AVX-512 with VNNI", false),
        x86::Level::Avx2 => ("AVX2", false),
        x86::Level::Base => ("SSE2 only", true),
    };
    #[cfg(not(target_arch = "x86_64"))]
    ("portable", false)
}

/// Defines a function that calls the body of the same name for the machine's instruction set.
macro_rules! dispatch {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        #[inline]
        #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "functions compiled for an instruction set can only be called where it exists"))]
        $visibility fn $name($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            match x86::level() {
                // SAFETY: `level` has found the instruction set that the function is compiled for.
                x86::Level::Avx512 => return unsafe { x86::avx512::$name($($arg),*) },
                // SAFETY: as above.
                x86::Level::Avx2 => return unsafe { x86::avx2::$name($($arg),*) },
                x86::Level::Base => {}
            }
            portable::$name($($arg),*)
        }
    };
}

dispatch! {
    /// Dot product over the shorter of both lengths; the lengths should be equal.
    pub fn dot(a: &[f32], b: &[f32]) -> f32
}
dispatch! {
    /// Dot product of a stored row of f16 bits and a query.
    pub(super) fn dot_f16(row: &[u16], query: &[f32]) -> f32
}
dispatch! {
    /// Dot product of a stored row of i8 and a query, still to be multiplied by the row's scale.
    pub(super) fn dot_i8(row: &[i8], query: &[f32]) -> f32
}
dispatch! {
    /// Dot product of a row's codes and a query's; lengths are equal multiples of 64.
    pub(super) fn dot_codes(row: &[u8], query: &[i8]) -> i32
}
dispatch! {
    /// Estimates the scores of a group into `scores`. Returns which of them are above `worst`, bit by row.
    pub(super) fn estimate(group: LinkGroup<'_>, query: LinkQuery<'_>, worst: f32, scores: &mut [f32; GROUP]) -> u32
}
dispatch! {
    /// Fills tables (see [`LinkQuery::tables`]) from the query's numbers, -63 to 63 each.
    pub(super) fn fill_tables(numbers: &[i16], tables: &mut [u8])
}
dispatch! {
    /// Multiplies by `signs`, then mixes the numbers of `block` with each other: a Walsh–Hadamard transform of orthonormal
    /// scale. `block` begins at a multiple of 16 and its length is a power of two from 64 on.
    pub(super) fn mix(numbers: &mut [f32], signs: &[f32], block: std::ops::Range<usize>)
}

/// Asks for bytes before they are needed; a hint without any other effect, whatever the address.
#[inline]
pub(super) fn prefetch(start: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(start, len);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len);
}

#[cfg(test)]
pub(super) mod tests;
