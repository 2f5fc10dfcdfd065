//! What this process holds, from /proc and the file system: before and afterwards it is to be the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How much memory in use may have grown after the first act. What glibc's `malloc` keeps for a thread that lives on counts as
/// in use, up to 7 blocks of each of 64 sizes: 232 KiB a thread, of which there are two here. Without that cache
/// (`GLIBC_TUNABLES=glibc.malloc.tcache_count=0`) nothing grows.
pub(crate) const MEMORY_TOLERANCE_KIB: u64 = 1 << 10;

/// The same for resident memory: the allocator keeps what was freed, as much as was in use at the worst moment.
pub(crate) const RSS_TOLERANCE_KIB: u64 = 256 << 10;

/// Mappings come and go with the allocator's arenas, two each and at most one for each of some 25 threads, and the cached stacks
/// of threads, two each and at most 20; the region of a link or a lane is counted exactly.
const MAPPINGS_TOLERANCE: usize = 100;

#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    descriptors: Vec<String>,
    threads: Vec<String>,
    children: Vec<String>,
    /// Of links and lanes, by what they map.
    regions: Vec<String>,
    shared_memory: Vec<String>,
    runtime_files: Vec<String>,
    mappings: usize,
    pub(crate) rss_kib: u64,
    pub(crate) memory_kib: Option<u64>,
}

impl Census {
    pub(crate) fn take(runtime_dir: &Path) -> Self {
        let own = std::process::id();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let is_region =
            |line: &&str| line.contains("ringmain") && line.contains("/memfd:") || line.contains("/dev/shm/");
        let region = |line: &str| line.split_ascii_whitespace().skip(5).collect::<Vec<_>>().join(" ");
        let is_ours =
            |name: &String| name.starts_with("ringmain-") && name.split('-').any(|part| part == own.to_string());
        Self {
            descriptors: descriptors(),
            threads: threads(),
            children: children().iter().map(u32::to_string).collect(),
            regions: sorted(maps.lines().filter(is_region).map(region).collect()),
            shared_memory: names("/dev/shm").into_iter().filter(is_ours).collect(),
            runtime_files: names(runtime_dir),
            mappings: maps.lines().count(),
            rss_kib: rss_kib(),
            memory_kib: memory_kib(),
        }
    }

    /// What is there and was not before. Memory is compared apart.
    fn grown(&self, before: &Self) -> Vec<String> {
        let kinds = [
            ("descriptor", &before.descriptors, &self.descriptors),
            ("thread", &before.threads, &self.threads),
            ("child process", &before.children, &self.children),
            ("mapping of a link or lane", &before.regions, &self.regions),
            ("file in /dev/shm", &before.shared_memory, &self.shared_memory),
            ("file in the runtime directory", &before.runtime_files, &self.runtime_files),
        ];
        let mut grown = Vec::new();
        for (kind, before, after) in kinds {
            grown.extend(more(before, after).into_iter().map(|what| format!("{kind} {what}")));
        }
        if self.mappings > before.mappings + MAPPINGS_TOLERANCE {
            grown.push(format!("{} mappings instead of {}", self.mappings, before.mappings));
        }
        grown
    }

    /// What memory has grown too much since the first act.
    pub(crate) fn grown_since(&self, first: &Self) -> Option<String> {
        let kinds = [
            ("resident", Some(first.rss_kib), Some(self.rss_kib), RSS_TOLERANCE_KIB),
            ("in use", first.memory_kib, self.memory_kib, MEMORY_TOLERANCE_KIB),
        ];
        kinds.into_iter().find_map(|(kind, first, now, tolerance)| {
            let (first, now) = (first?, now?);
            let text =
                || format!("{now} KiB of memory {kind}, {first} after the first act: {tolerance} more are tolerated");
            (now > first + tolerance).then(text)
        })
    }

    /// Takes a census that has nothing more than the one before; what it has more, if it still does after `patience`:
    /// threads and processes that have been told to end may take a moment.
    pub(crate) fn back_to(before: &Self, runtime_dir: &Path, patience: Duration) -> Result<Self, String> {
        let until = Instant::now() + patience;
        loop {
            let now = Self::take(runtime_dir);
            let grown = now.grown(before);
            if grown.is_empty() {
                return Ok(now);
            }
            if Instant::now() >= until {
                return Err(format!("left behind: {}", grown.join(", ")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn more(before: &[String], after: &[String]) -> Vec<String> {
    let mut counts = BTreeMap::<&String, i64>::new();
    after.iter().for_each(|it| *counts.entry(it).or_default() += 1);
    before.iter().for_each(|it| *counts.entry(it).or_default() -= 1);
    let many = |(what, count): (&&String, &i64)| (*count > 0).then(|| format!("{what} × {count}"));
    counts.iter().filter_map(many).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    sorted(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// What each descriptor is, without the number that tells one of its kind from another.
fn descriptors() -> Vec<String> {
    let target = |number: String| std::fs::read_link(format!("/proc/self/fd/{number}")).ok();
    let what = |number| target(number).map(|path| path.to_string_lossy().split(":[").next().unwrap_or("").to_string());
    let own = format!("/proc/{}/fd", std::process::id());
    sorted(names("/proc/self/fd").into_iter().filter_map(what).filter(|target| *target != own).collect())
}

fn threads() -> Vec<String> {
    let name = |id: String| std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok();
    sorted(names("/proc/self/task").into_iter().filter_map(name).map(|name| name.trim_end().to_string()).collect())
}

/// What a process does: T, it was stopped, perhaps by somebody else.
pub(crate) fn state(process: u32) -> String {
    stat(process, 3).unwrap_or("gone".into())
}

/// Processes of ours, zombies included.
pub(crate) fn children() -> Vec<u32> {
    let own = std::process::id().to_string();
    let is_child = |pid: &u32| stat(*pid, 4).as_ref() == Some(&own);
    names("/proc").iter().filter_map(|name| name.parse().ok()).filter(is_child).collect()
}

/// A field of proc_pid_stat(5) behind the program's name.
fn stat(process: u32, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(field - 3).map(str::to_string)
}

/// What was allocated and not freed, in all arenas; `None` where the allocator does not say.
fn memory_kib() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it only reads the allocator's counts, under its locks.
        #[allow(unsafe_code)]
        let counts = unsafe { libc::mallinfo2() };
        Some((counts.uordblks + counts.hblkhd) as u64 >> 10)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

pub(crate) fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
