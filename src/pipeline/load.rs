//! How many searches are under way, and how deep the next one looks: when there are too many, each does less, so that all are answered.
//!
//! Only what a search leaves to the settings is made less; what it names itself stands.

use std::sync::atomic::{AtomicUsize, Ordering};

/// When searches look less deep, and how far that goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadSettings {
    /// So many searches a thread that searches; 0: never.
    pub shallow_above: usize,
    pub threads: usize,
    pub ef_search: usize,
    pub candidates: usize,
    pub min_ef_search: usize,
    pub min_candidates: usize,
}

/// Searches under way.
#[derive(Debug)]
pub(super) struct Load {
    settings: LoadSettings,
    under_way: AtomicUsize,
}

/// A search under way, as long as it lives.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a Load);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How deep a search looks that leaves it to the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    pub ef_search: usize,
    pub candidates: usize,
}

impl Load {
    pub fn new(settings: LoadSettings) -> Self {
        Self { settings, under_way: AtomicUsize::new(0) }
    }

    /// Counts a search.
    pub fn enter(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// As the settings say.
    pub fn full_depth(&self) -> Depth {
        Depth { ef_search: self.settings.ef_search, candidates: self.settings.candidates }
    }

    /// That, or less: half of it from the bound on, a quarter from twice the bound on, and so on.
    pub fn depth(&self) -> Depth {
        let LoadSettings { shallow_above, threads, min_ef_search, min_candidates, .. } = self.settings;
        let full = self.full_depth();
        let bound = shallow_above.saturating_mul(threads);
        // The one that asks is one of them.
        let times = self.under_way().saturating_sub(1).checked_div(bound).unwrap_or(0);
        if times == 0 {
            return full;
        }
        let halvings = times.ilog2() + 1;
        let less = |full: usize, least: usize| full.checked_shr(halvings).unwrap_or(0).max(least.min(full));
        Depth { ef_search: less(full.ef_search, min_ef_search), candidates: less(full.candidates, min_candidates) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth_of(n: usize, shallow_above: usize) -> (usize, usize) {
        let load =
            Load::new(LoadSettings { shallow_above, threads: 2, ef_search: 200, candidates: 400, min_ef_search: 60, min_candidates: 50 });
        let under_way: Vec<_> = (0..n).map(|_| load.enter()).collect();
        let depth = load.depth();
        drop(under_way);
        assert_eq!((load.under_way(), load.depth()), (0, load.full_depth()), "all is well again");
        (depth.ef_search, depth.candidates)
    }

    #[test]
    fn depth_steps_down_to_its_bounds_and_comes_back() {
        assert_eq!(depth_of(0, 8), (200, 400));
        assert_eq!(depth_of(16, 8), (200, 400));
        assert_eq!(depth_of(17, 8), (100, 200));
        assert_eq!(depth_of(33, 8), (60, 100));
        assert_eq!(depth_of(65, 8), (60, 50));
        assert_eq!(depth_of(5_000, 8), (60, 50));
        assert_eq!(depth_of(5_000, 0), (200, 400), "never");
    }
}
