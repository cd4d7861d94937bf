//! `kindred bench`: runs `kindred-bench`, a program of its own, so that the server does not carry the benchmarks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::settings_args::SettingsArgs;

/// `kindred-bench`'s own arguments.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct BenchArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ann, filters, encoder, crash, freshness, restart, --help")]
    args: Vec<OsString>,
}

/// Runs the program with these settings and arguments; its exit code becomes ours.
///
/// # Errors
/// The program is not installed, or cannot be started.
pub fn run(settings: &SettingsArgs, args: &BenchArgs) -> Result<ExitCode> {
    let Some(program) = find() else {
        bail!(
            "the benchmarks are a program of their own, kindred-bench, which is neither next to this one nor in PATH. In a clone of Kindred: cargo install --path crates/kindred-bench (or cargo build --release --workspace, which puts it into target/release)"
        );
    };
    // Ctrl-C reaches both; that program decides how to end.
    let status = Command::new(&program)
        .args(settings.to_args())
        .args(&args.args)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    // A program that a signal ended has no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The program next to this one, or else in `PATH`.
fn find() -> Option<PathBuf> {
    let name = format!("kindred-bench{}", std::env::consts::EXE_SUFFIX);
    let own = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(std::env::split_paths(&path)).map(|dir| dir.join(&name)).find(|program| program.is_file())
}
