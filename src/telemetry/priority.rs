//! What a thread's work is worth beside that of others.

/// Makes the calling thread give way to all others: the system lets it run when nobody else wants to. A hint; where the system does
/// not know of such things, nothing changes.
pub fn lower() {
    /// The largest "niceness" there is.
    #[cfg(target_os = "linux")]
    const LOWEST: i32 = 19;
    // On Linux, a priority is a thread's own; elsewhere it would be that of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::setpriority_process(None, LOWEST) {
        tracing::debug!(error = %e, "a background thread keeps its priority");
    }
}
