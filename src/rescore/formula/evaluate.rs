//! The value of each node: always a number.

use super::{Curve, Function, NodeId, Op};
use crate::rescore::Feature;
use kindred_core::domain::Attributes;

/// Half of the Earth's circumference, in metres: no distance is larger.
const FARTHEST_M: f64 = 20_015_115.0;
const METRES_PER_KM: f64 = 1_000.0;
const US_PER_SECOND: f64 = 1e6;

const DEFAULTED: &str = "no value: the default";
const MISSING: &str = "no value: 0";
const MISSING_PLACE: &str = "no value: as far as can be";
const BY_ZERO_DEFAULT: &str = "division by zero: by_zero_default";
const BY_ZERO: &str = "division by zero: 0";
const UNDEFINED: &str = "not a number: 0";
const LIMITED: &str = "too large: limited";

/// The value of one node for one candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Computed {
    pub value: f64,
    /// Why it is not what the node says.
    pub note: Option<&'static str>,
}

impl Computed {
    fn noted(value: f64, note: &'static str) -> Self {
        Self { note: Some(note), ..Self::of(value) }
    }

    /// Every value passes here: what overflowed is limited, what is no number is 0.
    fn of(value: f64) -> Self {
        if value.is_nan() {
            Self::noted(0.0, UNDEFINED)
        } else if value.is_infinite() {
            Self::noted(f64::MAX.copysign(value), LIMITED)
        } else {
            // -0 becomes 0: two documents that score nothing are equal, also for a total order of floats.
            Self { value: value + 0.0, note: None }
        }
    }

    /// What a document says, or the default, or what stands for neither.
    fn looked_up(value: Option<f64>, default: Option<f64>, otherwise: Self) -> Self {
        match (value, default) {
            (Some(value), _) => Self::of(value),
            (None, Some(default)) => Self::noted(default, DEFAULTED),
            (None, None) => otherwise,
        }
    }
}

impl Op {
    /// The value, from those of the nodes before.
    pub(super) fn value(
        &self,
        before: &[Computed],
        attributes: &Attributes,
        now_us: f64,
        feature: impl Fn(Feature) -> Option<f64>,
    ) -> Computed {
        let value = |id: NodeId| before[id].value;
        let missing = Computed::noted(0.0, MISSING);
        match self {
            Self::Constant(constant) => Computed::of(*constant),
            Self::Now => Computed::of(now_us / US_PER_SECOND),
            Self::Feature { feature: named, default } => Computed::looked_up(feature(*named), *default, missing),
            Self::Number { field, default } => Computed::looked_up(attributes.number(Some(*field)), *default, missing),
            Self::Time { field, default } => {
                let seconds = attributes.number(Some(*field)).map(|us| us / US_PER_SECOND);
                Computed::looked_up(seconds, *default, missing)
            }
            Self::Distance { origin, field, default } => {
                let places = attributes.places(Some(*field));
                let nearest_km = places.iter().map(|place| place.distance_km(*origin)).reduce(f64::min);
                let far = Computed::noted(FARTHEST_M, MISSING_PLACE);
                Computed::looked_up(nearest_km.map(|km| km * METRES_PER_KM), *default, far)
            }
            Self::Condition(condition) => Computed::of(f64::from(u8::from(condition.matches(attributes)))),
            Self::Sum(parts) => Computed::of(parts.iter().fold(0.0, |sum, &part| sum + value(part))),
            Self::Mult(parts) => {
                let product = parts.iter().fold(1.0, |product, &part| product * value(part));
                // Its parts are finite: it can only have overflowed before it met a zero.
                if product.is_nan() { Computed::noted(0.0, LIMITED) } else { Computed::of(product) }
            }
            Self::Of(function, part) => function.of(value(*part)),
            Self::Div { left, right, by_zero_default } => divided(value(*left), value(*right), *by_zero_default),
            Self::Pow { base, exponent } => power(value(*base), value(*exponent)),
            Self::Decay { curve, x, target, scale, midpoint } => {
                let from_target = (value(*x) - target.map_or(0.0, value)).abs();
                Computed::of(curve.at((from_target / scale).min(f64::MAX), *midpoint))
            }
        }
    }
}

impl Function {
    fn of(self, x: f64) -> Computed {
        match self {
            Self::Neg => Computed::of(-x),
            Self::Abs => Computed::of(x.abs()),
            Self::Sqrt => Computed::of(x.sqrt()),
            Self::Exp => Computed::of(x.exp()),
            // Without this the logarithm of 0 would be the least of all scores, for a document that nobody has looked at yet.
            Self::Ln | Self::Log10 if x <= 0.0 => Computed::noted(0.0, UNDEFINED),
            Self::Ln => Computed::of(x.ln()),
            Self::Log10 => Computed::of(x.log10()),
        }
    }
}

impl Curve {
    /// The decay this many scales from the target: 1 at 0, the midpoint at 1. Qdrant's curves, written so that neither a tiny scale nor a
    /// far value leaves the numbers.
    fn at(self, scales: f64, midpoint: f64) -> f64 {
        match self {
            Self::Linear => (1.0 - (1.0 - midpoint) * scales).max(0.0),
            Self::Exponential => (midpoint.ln() * scales).exp(),
            Self::Gauss => (midpoint.ln() * scales * scales).exp(),
        }
    }
}

/// As Qdrant has it, nothing divided is nothing, also by zero.
fn divided(left: f64, right: f64, by_zero_default: Option<f64>) -> Computed {
    match (left, right, by_zero_default) {
        (0.0, _, _) => Computed::of(0.0),
        (_, 0.0, Some(default)) => Computed::noted(default, BY_ZERO_DEFAULT),
        (_, 0.0, None) => Computed::noted(0.0, BY_ZERO),
        _ => Computed::of(left / right),
    }
}

fn power(base: f64, exponent: f64) -> Computed {
    if base == 0.0 && exponent < 0.0 {
        return Computed::noted(0.0, UNDEFINED);
    }
    Computed::of(base.powf(exponent))
}
