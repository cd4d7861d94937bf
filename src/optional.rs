//! The parts that a build may leave out because they take minutes to compile, and the error where one is missing.
//!
//! Cargo.toml tells what each costs. `--features full` builds all of them; releases (wheel, .deb, image) have them.

/// A part that is compiled only with its Cargo feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The Cargo feature.
    pub feature: &'static str,
    what: &'static str,
    /// Whether this build has it.
    pub is_built: bool,
}

macro_rules! parts {
    ($($name:ident = $feature:literal $what:literal;)*) => {
        $(pub const $name: Part = Part { feature: $feature, what: $what, is_built: cfg!(feature = $feature) };)*
        /// Every part.
        pub const PARTS: &[Part] = &[$($name),*];
    };
}

parts! {
    KAFKA = "kafka" "Kafka feed";
    MCP = "mcp" "tools for agents at /mcp";
    OBJECT_STORE = "object-store" "object stores (S3, GCS, Azure) for snapshots";
    OTLP = "otlp" "traces over OTLP";
    PARQUET = "parquet" "Parquet reader";
    TREES = "trees" "learning of trees (train rescore)";
}

impl Part {
    /// Returns the error for a caller that needs this part where it was left out.
    pub fn missing(&self) -> String {
        format!(
            "this build has no {}: install a release (wheel, .deb or container image; they have every part), or build it in: cargo build --release --features {}",
            self.what, self.feature
        )
    }
}
