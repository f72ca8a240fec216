//! Running the binary in a folder of its own.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// An empty folder, and nothing of the caller's environment that matters.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) err: String,
    pub(crate) out: String,
}

/// A serving process, which ends with the test.
pub(crate) struct Serving {
    child: Child,
    pub(crate) started: serde_json::Value,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(args).current_dir(self.path());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("COUNTERSIGN_")
                || ["CI", "ZT_OFF", "RUST_LOG"].contains(&&*name_text)
            {
                command.env_remove(&name);
            }
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, &[], "")
    }

    /// A command line whose arguments have no spaces.
    pub(crate) fn line(&self, line: &str) -> Done {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Done {
        let mut command = self.command(args);
        command.envs(env.iter().copied()).stdin(Stdio::piped());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Done::from(child.wait_with_output().unwrap())
    }

    /// Starts a process that serves, and waits until it says on what.
    pub(crate) fn serve(&self, args: &[&str], env: &[(&str, &str)]) -> Serving {
        let mut command = self.command(args);
        command.args(["-o", "json"]).envs(env.iter().copied());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        let started = loop {
            let Some(Ok(line)) = lines.next() else {
                let mut err = String::new();
                child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut err)
                    .unwrap();
                panic!("it does not serve: {err}");
            };
            text.push_str(&line);
            if let Ok(document) = serde_json::from_str(&text) {
                break document;
            }
        };
        // Its standard error is read on, so that it never waits for a reader.
        let mut err = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
        Serving { child, started }
    }
}

impl Serving {
    /// Asks it to stop and returns its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code().unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    /// The answer as a document of this schema.
    pub(crate) fn document(&self, schema: &str) -> serde_json::Value {
        let document: serde_json::Value =
            serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(document["schema"], schema);
        document
    }

    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap(),
            err: text(output.stderr),
            out: text(output.stdout),
        }
    }
}
