//! What the operating system allows this process: files, maps, room on a disk. Elsewhere than on Linux, nothing of it is known.

use std::path::Path;

/// Files and connections that this process may have open.
pub fn max_open_files() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return Some(rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX));
    #[cfg(not(target_os = "linux"))]
    None
}

/// Mapped parts of files, and of memory, that a process may have.
pub fn max_maps() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// Room that is left for this user on the disk of a file or folder that is there.
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(target_os = "linux")]
    return rustix::fs::statvfs(path).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_all() {
        assert!(max_open_files().unwrap() > 0 && max_maps().unwrap() > 0);
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).unwrap() > 0);
        assert_eq!(free_bytes(&dir.path().join("none")), None);
    }
}
