//! What the last stages cost, and how near the cheap ones come to the dear one.

use std::fmt::Write;

use serde::Serialize;

/// Items, and the microseconds that they took; one query after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Spent {
    pub n: u64,
    pub us: u64,
}

/// The stages after retrieval, on the same queries in the same run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Speed {
    /// Candidates and the re-scoring of them: reading their values, features, score, order.
    pub rescored: Spent,
    /// The same by what was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned: Option<Spent>,
    /// Pairs of query and document, and the cross-encoder's time for them.
    pub cross_encoded: Spent,
    pub rescored_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned_per_second: Option<f64>,
    pub cross_encoded_per_second: f64,
    /// Share of the way in nDCG@10 from retrieval by meaning to the cross-encoder; none where there is no way.
    pub gap_recovered: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_recovered_by_learned: Option<f64>,
}

/// nDCG@10 of the orders between which the way is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub dense: Option<f64>,
    pub rescored: f64,
    pub learned: Option<f64>,
    pub crossed: f64,
}

impl Spent {
    pub(super) fn add(&mut self, n: usize, us: u64) {
        self.n += n as u64;
        self.us += us;
    }

    fn per_second(self) -> f64 {
        self.n as f64 / (self.us.max(1) as f64 / 1e6)
    }
}

impl Speed {
    pub(super) fn new(rescored: Spent, learned: Option<Spent>, cross_encoded: Spent, way: Way) -> Self {
        let gone = |to: f64| way.dense.filter(|dense| way.crossed > *dense).map(|dense| (to - dense) / (way.crossed - dense));
        Self {
            rescored,
            learned,
            cross_encoded,
            rescored_per_second: rescored.per_second(),
            learned_per_second: learned.map(Spent::per_second),
            cross_encoded_per_second: cross_encoded.per_second(),
            gap_recovered: gone(way.rescored),
            gap_recovered_by_learned: way.learned.and_then(gone),
        }
    }

    /// As people read it.
    pub(super) fn line(&self) -> String {
        let times = |per_second: f64| per_second / self.cross_encoded_per_second;
        let mut text = format!("  re-scored {:.0} candidates a second", self.rescored_per_second);
        if let Some(learned) = self.learned_per_second {
            let _ = write!(text, ", by what was learned {learned:.0}");
        }
        let _ =
            write!(text, "; cross-encoded {:.1} pairs a second: 1/{:.0}", self.cross_encoded_per_second, times(self.rescored_per_second));
        if let Some(learned) = self.learned_per_second {
            let _ = write!(text, " and 1/{:.0}", times(learned));
        }
        let Some(recovered) = self.gap_recovered else { return text + "; it is no better than retrieval by meaning, so there is no gap" };
        let _ = write!(text, "; re-scoring recovers {:.0} %", recovered * 100.0);
        if let Some(learned) = self.gap_recovered_by_learned {
            let _ = write!(text, ", what was learned {:.0} %,", learned * 100.0);
        }
        text + " of the gap dense → cross-encoder"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_and_the_way_between_them_are_told() {
        let (mut rescored, mut crossed) = (Spent::default(), Spent::default());
        (0..10).for_each(|_| rescored.add(200, 500));
        crossed.add(100, 1_000_000);
        let way = Way { dense: Some(0.5), rescored: 0.65, learned: Some(0.68), crossed: 0.7 };
        let speed = Speed::new(rescored, Some(rescored), crossed, way);
        assert_eq!((speed.rescored_per_second, speed.cross_encoded_per_second), (400_000.0, 100.0));
        assert!((speed.gap_recovered.unwrap() - 0.75).abs() < 1e-9 && (speed.gap_recovered_by_learned.unwrap() - 0.9).abs() < 1e-9);
        let line = speed.line();
        for word in ["400000 candidates a second", "100.0 pairs", "1/4000 and 1/4000", "recovers 75 %, what was learned 90 %, of the gap"] {
            assert!(line.contains(word), "{line}");
        }
        let none = Speed::new(rescored, None, crossed, Way { crossed: 0.4, learned: None, ..way });
        assert_eq!(none.gap_recovered, None);
        assert!(none.line().contains("no gap"), "{}", none.line());
    }
}
