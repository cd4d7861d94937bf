//! How much memory is left: what the system has available or what the process's control groups still allow, whichever is less.
//!
//! Read from Linux's own files (`/proc/meminfo`, `/proc/self/cgroup`, `/sys/fs/cgroup`); where they are not, nothing is known.
//! Mapped and cached pages of files are given back when memory is short, so they count as left, as in `MemAvailable`: otherwise
//! a server would seem to be full of its own index.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that the process can still take, `None` where that is not known.
pub fn available_bytes() -> Option<u64> {
    available_in(Path::new("/"))
}

fn available_in(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB"))?;
    let system = kib.trim().parse::<u64>().ok()?.saturating_mul(1024);
    Some(groups(root).iter().filter_map(|(dir, files)| files.left(dir)).fold(system, u64::min))
}

/// Where a control group tells its limit, what it uses, and how much of that are pages of files.
struct Files {
    limit: &'static str,
    used: &'static str,
    cached: [&'static str; 2],
}

const VERSION_2: Files = Files { limit: "memory.max", used: "memory.current", cached: ["inactive_file", "active_file"] };
const VERSION_1: Files =
    Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cached: ["total_inactive_file", "total_active_file"] };

impl Files {
    /// `None` when the group sets no limit, or is none.
    fn left(&self, dir: &Path) -> Option<u64> {
        let number = |file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
        // Without a limit, version 2 says "max" here; version 1 a number that no machine reaches.
        let limit = number(self.limit)?;
        let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let counted = stat.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| self.cached.contains(name));
        let cached: u64 = counted.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum();
        Some(limit.saturating_sub(number(self.used)?.saturating_sub(cached)))
    }
}

/// The process's own groups and all above them: each may set a limit. In a container, the paths may be those of the host, which
/// are not there; what is there is the container's own group, at the top.
fn groups(root: &Path) -> Vec<(PathBuf, Files)> {
    let of_process = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in of_process.lines() {
        // number:controllers:path
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let mount = match controllers {
            "" => "sys/fs/cgroup",
            _ if controllers.split(',').any(|name| name == "memory") => "sys/fs/cgroup/memory",
            _ => continue,
        };
        let files = || if controllers.is_empty() { VERSION_2 } else { VERSION_1 };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        groups.extend(above.map(|group| (root.join(mount).join(group), files())));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes left on a machine with these files.
    fn left(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available_in(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       9000 kB\nMemAvailable:   1000 kB\nBuffers: 1 kB\n");

    #[test]
    fn the_least_of_system_and_groups_counts() {
        assert_eq!(left(&[]), None, "not Linux");
        assert_eq!(left(&[MEMINFO]), Some(1_024_000));
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let unlimited = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(left(&[MEMINFO, group, unlimited]), Some(1_024_000));
        let above = [("sys/fs/cgroup/a/memory.max", "5000\n"), ("sys/fs/cgroup/a/memory.current", "3000\n")];
        assert_eq!(left(&[&[MEMINFO, group, unlimited][..], &above].concat()), Some(2_000), "the group above has a limit");
        let cached = ("sys/fs/cgroup/a/memory.stat", "anon 900\ninactive_file 1000\nactive_file 500\n");
        assert_eq!(left(&[&[MEMINFO, group, cached][..], &above].concat()), Some(3_500), "pages of files are given back");
        let full = ("sys/fs/cgroup/a/memory.current", "6000\n");
        assert_eq!(left(&[MEMINFO, group, above[0], full]), Some(0));
    }

    #[test]
    fn groups_of_version_1_and_of_containers_count() {
        let group = ("proc/self/cgroup", "9:cpu,cpuacct:/x\n7:hugetlb,memory:/docker/1f\n0::/\n");
        let own = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "800000"), ("sys/fs/cgroup/memory/memory.usage_in_bytes", "300000")];
        assert_eq!(left(&[&[MEMINFO, group][..], &own].concat()), Some(500_000));
        let cached = ("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 100000\n");
        assert_eq!(left(&[&[MEMINFO, group, cached][..], &own].concat()), Some(600_000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory_left() {
        assert!(available_bytes().unwrap() > 0);
    }
}
