//! When the server is killed, and what it is doing then: drawn for each cycle.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::operator::Duty;
use super::shared::{Phase, Shared};
use crate::server::Server;
use kindred_core::domain::Choice;
use kindred_core::storage;

/// The latest moment that is drawn.
const MAX_DELAY: Duration = Duration::from_millis(700);
/// A phase that has not begun by then does not begin.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK: Duration = Duration::from_micros(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// After this time.
    After(Duration),
    /// In the middle of this: after a share of the time that it takes, in percent.
    In(Phase, u64),
}

/// A cycle as it is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub writes: bool,
    pub duty: Duty,
    /// Whether there are rebuilds whatever the duty.
    pub rebuilds_beside: bool,
    moment: Moment,
    /// Whether, and after which percentage of its time, the next start is killed, too.
    pub kills_start: Option<u64>,
}

impl Plan {
    /// Draws a cycle. Snapshots are left out of it where the server takes none.
    pub fn draw(choice: &mut Choice, has_snapshots: bool) -> Self {
        let percent = choice.below(120) as u64;
        let rebuilds_beside = choice.chance(30);
        let in_phase = |duty, phase| Self { writes: true, duty, rebuilds_beside, moment: Moment::In(phase, percent), kills_start: None };
        let after = Moment::After(MAX_DELAY.mul_f64(choice.below(1_000) as f64 / 1e3));
        let duty =
            *choice.pick(&[Duty::Nothing, Duty::Rebuild, Duty::Activate, if has_snapshots { Duty::Snapshot } else { Duty::Rebuild }]);
        match choice.below(100) {
            0..35 => Self { writes: true, duty, rebuilds_beside, moment: after, kills_start: None },
            35..40 => Self { writes: false, duty: Duty::Nothing, rebuilds_beside: false, moment: after, kills_start: None },
            40..55 => in_phase(Duty::Rebuild, Phase::Rebuilding),
            55..70 => in_phase(Duty::Activate, Phase::Activating),
            70..80 if has_snapshots => in_phase(Duty::Snapshot, Phase::Snapshotting),
            70..90 => in_phase(Duty::Nothing, Phase::Rotating),
            _ => Self { writes: true, duty, rebuilds_beside, moment: after, kills_start: Some(percent) },
        }
    }

    /// Waits for the moment. Returns what the server is doing then.
    pub fn wait(&self, server: &mut Server, shared: &Shared, collection: &Path, typical: &BTreeMap<Phase, Duration>) -> Phase {
        let started = Instant::now();
        let logs = || storage::list_dir(&collection.join("wal")).unwrap_or_default();
        let before = logs();
        let mut goes_on = || !shared.has_faults() && !server.has_ended();
        match self.moment {
            Moment::After(delay) => {
                while started.elapsed() < delay && goes_on() {
                    std::thread::sleep(LOOK);
                }
                shared.phase()
            }
            Moment::In(Phase::Rotating, _) => {
                while started.elapsed() < MAX_WAIT && goes_on() {
                    if logs().iter().any(|log| !before.contains(log)) {
                        return Phase::Rotating;
                    }
                }
                shared.phase()
            }
            Moment::In(phase, percent) => {
                while shared.phase() != phase && started.elapsed() < MAX_WAIT && goes_on() {
                    std::thread::sleep(LOOK);
                }
                let takes = typical.get(&phase).copied().unwrap_or(Duration::from_millis(20));
                std::thread::sleep(takes.mul_f64(percent as f64 / 100.0).min(MAX_DELAY));
                shared.phase()
            }
        }
    }
}
