use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Says why the calling test can't run on this machine; the test returns right after it.
///
/// The line `NOT RUN: <test>: <why>` is printed and appended to the file that the environment
/// variable `COUNTERSIGN_NOT_RUN` names. `cargo xtask test` counts it as skipped and shows it in
/// its summary; with `--require-all` it is a failure. Without the variable (plain `cargo test`)
/// the line is printed only.
///
/// # Panics
/// When the file can't be written: a test that proved nothing may not pass in silence.
#[expect(clippy::print_stdout, reason = "whoever runs the tests reads it")]
#[expect(
    clippy::panic,
    reason = "a test that can't be counted as skipped must fail"
)]
pub fn not_run(why: &str) {
    let thread = std::thread::current();
    let line = format!("NOT RUN: {}: {why}\n", thread.name().unwrap_or("unnamed"));
    print!("{line}");
    if let Some(path) = std::env::var_os("COUNTERSIGN_NOT_RUN")
        && let Err(error) = append(Path::new(&path), &line)
    {
        panic!("can't write {}: {error}", path.display());
    }
}

/// One write in append mode, so that lines of parallel tests don't mix.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not-run.txt");
        append(&path, "NOT RUN: a: needs root\n").unwrap();
        append(&path, "NOT RUN: b: no openssl\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "NOT RUN: a: needs root\nNOT RUN: b: no openssl\n");
    }
}
