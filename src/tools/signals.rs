//! Ctrl-C and SIGTERM: the server's graceful end, and the cancelling of long commands.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use kindred_core::Cancel;

/// What a shell reports of a process that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Ctrl-C and, where there is such a thing, SIGTERM.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
}

impl Signals {
    /// Listens from now on, on the runtime that this is called in.
    ///
    /// # Errors
    /// The operating system does not allow it.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt())?,
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub async fn wait(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }

    /// Waits for the next signal.
    #[cfg(not(unix))]
    pub async fn wait(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The end of a command that a signal cancelled: says what was cancelled and what is left of it.
pub fn interrupted(what: impl fmt::Display) -> ExitCode {
    eprintln!("{what}");
    ExitCode::from(INTERRUPTED)
}

/// A handle that a signal cancels from now on. A second signal ends the process where it stands: what was acknowledged is
/// durable, and the next rebuild removes what is left of this one.
///
/// # Errors
/// The operating system does not let signals be listened for.
pub fn cancelled_by_signal() -> Result<Cancel> {
    let cancel = Cancel::default();
    let handle = cancel.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot listen for signals")?;
    let mut signals = runtime.block_on(async { Signals::listen() }).context("cannot listen for signals")?;
    let wait = move || {
        runtime.block_on(signals.wait());
        // First cancelled, then said: what reads the message may rely on it.
        handle.cancel();
        eprintln!("cancelling (once more ends it at once)");
        runtime.block_on(signals.wait());
        std::process::exit(i32::from(INTERRUPTED));
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("cannot listen for signals")?;
    Ok(cancel)
}
