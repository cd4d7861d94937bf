//! Numbers: 64-bit integers and floats, compared without rounding.

use std::cmp::Ordering;

use bincode::{Decode, Encode};
use serde_json::Value as Json;

/// An integer from -2^63 to 2^64 - 1, or a finite `f64`.
///
/// It consists of the nearest `f64` and the integer's difference from that, which is 0 for every `f64` and for integers up to
/// 2^53. Rounding keeps the order of numbers, so that comparing first the one and then the other compares integers and floats
/// exactly.
///
/// # Example
/// ```
/// use kindred_core::domain::Number;
///
/// let (odd, even) = (Number::from(9_007_199_254_740_993_i64), Number::from(9_007_199_254_740_992.0));
/// assert!(odd > even && odd.as_f64() == even.as_f64());
/// ```
#[derive(Debug, Clone, Copy, Encode, Decode)]
pub struct Number {
    nearest: f64,
    /// At most 1,024 on either side: half the distance between two `f64` just below 2^64.
    rest: i16,
}

impl Number {
    /// The number of which these are the two parts.
    #[inline]
    pub fn from_parts(nearest: f64, rest: i16) -> Self {
        // -0 becomes 0: they are equal, also in a total order.
        Self { nearest: nearest + 0.0, rest }
    }

    /// The nearest `f64`.
    #[inline]
    pub fn as_f64(self) -> f64 {
        self.nearest
    }

    /// The number minus [`Self::as_f64`].
    #[inline]
    pub fn rest(self) -> i16 {
        self.rest
    }

    /// The integer below or at the number, within the bounds of `i64`.
    pub fn as_i64(self) -> i64 {
        let whole = self.nearest.floor() as i128 + i128::from(self.rest);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    /// A JSON number. Integers that do not fit into 64 bits have become floats when the JSON was parsed.
    pub fn from_json(json: &Json) -> Option<Self> {
        match (json.as_i64(), json.as_u64()) {
            (Some(integer), _) => Some(Self::from(integer)),
            (None, Some(integer)) => Some(Self::from(integer)),
            (None, None) => json.as_f64().filter(|float| float.is_finite()).map(Self::from),
        }
    }

    fn from_integer(integer: i128) -> Self {
        let nearest = integer as f64;
        Self { nearest, rest: (integer - nearest as i128) as i16 }
    }
}

impl From<f64> for Number {
    fn from(float: f64) -> Self {
        Self::from_parts(float, 0)
    }
}

impl From<i64> for Number {
    fn from(integer: i64) -> Self {
        Self::from_integer(i128::from(integer))
    }
}

impl From<u64> for Number {
    fn from(integer: u64) -> Self {
        Self::from_integer(i128::from(integer))
    }
}

impl Ord for Number {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.nearest.total_cmp(&other.nearest).then(self.rest.cmp(&other.rest))
    }
}

impl PartialOrd for Number {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Integers at all edges, those next to them, and any.
    fn integer() -> impl Strategy<Value = i128> {
        let edges =
            prop::sample::select(vec![0, 1 << 53, -(1 << 53), 1 << 62, i128::from(i64::MIN), i128::from(i64::MAX), i128::from(u64::MAX)]);
        let near = (edges, -2_100i128..2_100).prop_map(|(edge, by)| edge + by);
        prop_oneof![near, any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from)]
            .prop_map(|integer| integer.clamp(i128::from(i64::MIN), i128::from(u64::MAX)))
    }

    fn number(integer: i128) -> Number {
        match (i64::try_from(integer), u64::try_from(integer)) {
            (Ok(signed), _) => Number::from(signed),
            (_, Ok(unsigned)) => Number::from(unsigned),
            _ => unreachable!("it has 64 bits"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn integers_keep_their_order(a in integer(), b in integer()) {
            prop_assert_eq!(number(a).cmp(&number(b)), a.cmp(&b));
            prop_assert_eq!(number(a).as_f64(), a as f64);
            prop_assert_eq!(i128::from(number(a).as_i64()), a.min(i128::from(i64::MAX)));
            prop_assert_eq!(Number::from_json(&serde_json::from_str(&a.to_string()).unwrap()), Some(number(a)));
        }

        /// Whole floats are compared as the integers that they are; others by the integers on both sides.
        #[test]
        fn integers_and_floats_keep_their_order(a in integer(), by in -3_000i128..3_000, fraction in 0.0..1.0f64) {
            let whole = (a + by) as f64;
            prop_assert_eq!(number(a).cmp(&Number::from(whole)), a.cmp(&(whole as i128)));
            let float = by as f64 + fraction;
            let expected = if fraction == 0.0 { a.cmp(&by) } else if a <= by { Ordering::Less } else { Ordering::Greater };
            prop_assert_eq!(number(a).cmp(&Number::from(float)), expected);
        }
    }

    #[test]
    fn zeros_are_equal_and_what_is_no_number_is_none() {
        assert_eq!(Number::from(-0.0), Number::from(0.0));
        assert_eq!(Number::from(-0.0), Number::from(0_i64));
        assert_eq!(Number::from(-1.5).as_i64(), -2);
        for json in ["null", "\"1\"", "true", "[1]"] {
            assert_eq!(Number::from_json(&serde_json::from_str(json).unwrap()), None);
        }
    }
}
