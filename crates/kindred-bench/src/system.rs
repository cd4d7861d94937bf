//! What the operating system knows of this process and its files. Elsewhere than on Linux, some of it is not known.

use std::fs::File;
use std::io;
use std::path::Path;

/// CPU time of all threads of this process so far.
pub(super) fn cpu_seconds() -> Option<f64> {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Memory of this process that is in RAM, mapped files counted.
pub(super) fn resident_bytes() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kilobytes = told.lines().find_map(|line| line.strip_prefix("Rss:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

/// Asks for a file to be dropped from the page cache. Returns whether there is a way to ask; pages that are mapped stay.
///
/// # Errors
/// A file that cannot be opened or synced: pages that are not on disk yet cannot be dropped.
pub(super) fn drop_from_cache(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    file.sync_all()?;
    #[cfg(target_os = "linux")]
    {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(true)
    }
    #[cfg(not(target_os = "linux"))]
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_all() {
        assert!(cpu_seconds().unwrap() > 0.0);
        assert!(resident_bytes().unwrap() > 100_000);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(drop_from_cache(file.path()).unwrap());
    }
}
