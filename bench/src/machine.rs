//! What the kernel knows of processes, and what machine this is.

use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;

/// The core of the load generator and of what is not measured.
pub(crate) const LOAD_CORE: &str = "0";
/// The core of the proxies.
pub(crate) const PROXY_CORE: &str = "1";

/// Clock ticks of `/proc` per second: fixed for user space on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// CPU time of a process and its descendants, in seconds.
///
/// `utime + stime` of `/proc/<pid>/stat`: the kernel scales the two so that their sum is the
/// scheduler's own run time of the thread group, ended threads included (`cputime_adjust`).
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let mut ticks = 0;
    for pid in tree(pid)? {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let fields = fields(&stat)?;
        let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|it| it.parse().ok()));
        ticks += user.unwrap_or(0_u64) + system.unwrap_or(0);
    }
    #[expect(clippy::cast_precision_loss, reason = "days fit many times over")]
    Ok(ticks as f64 / TICKS)
}

/// Memory of a process and its descendants, in bytes, what they share counted once.
///
/// That is `Pss` where there are several. Of one alone it is `Rss`, for `Pss` would divide its
/// program by how often a run has started it.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let mut total = 0;
    let tree = tree(pid)?;
    let name = if tree.len() == 1 { "Rss:" } else { "Pss:" };
    for pid in tree {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|it| it.split_whitespace().next());
        total += kib.with_context(|| path)?.parse::<u64>()? << 10;
    }
    Ok(total)
}

/// The process and all that it started.
fn tree(root: u32) -> Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if let Some(parent) = fields(&stat)?.get(1).and_then(|it| it.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    Ok(found)
}

/// The fields of `stat` behind the program's name, which may have anything in it: the first is the
/// state, the second the parent.
fn fields(stat: &str) -> Result<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')').context("no name in `stat`")?;
    Ok(rest.split_whitespace().collect())
}

/// A line about the processor, the kernel and who else is busy.
pub(crate) fn description() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |it| it.trim_start_matches([' ', '\t', ':']));
    let cores = info.matches("model name").count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    format!(
        "{cores} cores of {model}, Linux {}, load {load} at the start",
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_in_full() {
        let before = cpu(std::process::id()).unwrap();
        let start = std::time::Instant::now();
        let mut sum = 0_u64;
        while start.elapsed().as_millis() < 300 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        assert_ne!(std::hint::black_box(sum), 1);
        let used = cpu(std::process::id()).unwrap() - before;
        // Tests beside this one count too, and a busy machine gives less.
        assert!(used > 0.02, "{used}");
        assert!(memory(std::process::id()).unwrap() > 1 << 20);
    }

    #[test]
    fn a_name_with_spaces_and_brackets_is_passed_over() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 5 6 0 0";
        let fields = fields(stat).unwrap();
        assert_eq!(fields.first(), Some(&"S"));
        assert_eq!([fields[1], fields[11], fields[12]], ["1", "5", "6"]);
    }
}
