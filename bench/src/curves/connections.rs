//! Connections: what a request costs with many of them open, and what each holds.

use super::Table;
use crate::plan::Contestant;
use crate::site::Shape;
use crate::site::Site;
use anyhow::Result;
use std::path::Path;

pub(super) fn curve(binary: &Path, quick: bool) -> Result<String> {
    let sizes: &[usize] = if quick {
        &[10, 100]
    } else {
        &[10, 100, 1_000, 10_000]
    };
    let mut table = Table::new(&[
        "connections",
        "at 2,000/s, CPU µs/request",
        "p50 µs",
        "p99 µs",
        "memory, MiB",
    ]);
    let folder = tempfile::tempdir()?;
    for &size in sizes {
        // Each from a fresh start: memory that was once taken is kept for the next.
        let site = Site::start(
            binary,
            folder.path().join(size.to_string()),
            Shape::Whole,
            "os",
        )?;
        let contestant = Contestant::own(&site);
        let seconds = if quick { 0.5 } else { 5.0 };
        let (cpu, [half, ninety_nine, _]) = contestant.paced(size, seconds)?;
        let memory = contestant.with_idle(size)?;
        table.line(size as u64, &[cpu, half, ninety_nine, memory]);
    }
    Ok(table.0)
}
