//! What Kindred tells about itself: logs, metrics and progress.

mod progress;

pub use progress::Progress;
