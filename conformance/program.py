"""The program as a process of its own, for judges that look at it from outside.

`COUNTERSIGN_BIN` names it. Everything is in a temporary folder and on ports that are free. Started
as root, it runs as an unprivileged user, and so does every command of its operator.
"""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# For what takes seconds: it ends what hangs, and is no measure of how fast anything is.
WAIT = 120
NOBODY = 65534


class Wrong(Exception):
    """Something is not as it has to be."""


def check(condition, message):
    if not condition:
        raise Wrong(message)


def lacking(programs, modules):
    """What this machine would need, in words; none if it has all of it."""
    for program in programs:
        if shutil.which(program) is None:
            return f"`{program}` is not installed"
    for module in modules:
        if subprocess.run([sys.executable, "-c", f"import {module}"], check=False,
                          capture_output=True).returncode != 0:
            return f"the Python package `{module}` is not installed"
    return None


def listed(path):
    """The entries of a list of exceptions: `entry  # reason`, each with its reason."""
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry, _, reason = line.partition("#")
        check(reason.strip(), f"{path.name}:{number}: an exception without a reason")
        entries.append(" ".join(entry.split()))
    check(len(entries) == len(set(entries)), f"{path.name}: an entry is there twice")
    return entries


class Program:
    """One folder with a configuration, and the processes that were started in it."""

    def __init__(self, configuration):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="countersign-judges-"))
        self.user = NOBODY if os.geteuid() == 0 else None
        self.data = self.folder / "data"
        self.processes = []
        self.binary = self._reachable(pathlib.Path(os.environ["COUNTERSIGN_BIN"]).resolve())
        self.own(self.folder / "countersign.yaml", configuration)
        if self.user is not None:
            os.chown(self.folder, self.user, self.user)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self):
        """Ends the processes, the last one first."""
        processes, self.processes = self.processes, []
        for name, child in reversed(processes):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(WAIT)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            print(f"{name} ended with {child.returncode}", file=sys.stderr)

    def own(self, path, text):
        """A file that belongs to the program's user."""
        path.write_text(text)
        if self.user is not None:
            os.chown(path, self.user, self.user)
        return path

    def start(self, *arguments):
        """Starts a process that serves; the document in which it says where."""
        name = arguments[0]
        with open(self.log(name), "wb") as log:
            child = subprocess.Popen(self._command(*arguments, "-o", "json"), stdout=subprocess.PIPE,
                                     stderr=log, stdin=subprocess.DEVNULL, **self._as_user())
        self.processes.append((name, child))
        text, end = b"", time.monotonic() + WAIT
        while time.monotonic() < end:
            ready, _, _ = select.select([child.stdout], [], [], 1)
            if not ready:
                continue
            more = os.read(child.stdout.fileno(), 65536)
            check(more, f"{name} ended: {self.log(name).read_text()[-4000:]}")
            text += more
            with contextlib.suppress(ValueError):
                return json.loads(text)
        raise Wrong(f"{name} does not serve: {self.log(name).read_text()[-4000:]}")

    def log(self, name):
        return self.folder / f"{name}.log"

    def alive(self):
        """Fails if a process has ended or panicked."""
        for name, child in self.processes:
            text = self.log(name).read_text()
            check(child.poll() is None, f"{name} ended with {child.returncode}: {text[-4000:]}")
            check("panicked" not in text, f"{name} panicked: {text[-4000:]}")

    def run(self, *arguments, text=None):
        """A command of the operator, which has to succeed; what it printed."""
        done = subprocess.run(self._command(*arguments), input=text, capture_output=True, text=True,
                              timeout=WAIT, check=False, **self._as_user())
        check(done.returncode == 0, f"{arguments}: {done.returncode} {done.stdout}{done.stderr}")
        return done.stdout

    def document(self, *arguments):
        return json.loads(self.run(*arguments, "-o", "json"))

    def as_user(self):
        """Lets code of this process connect to the program's sockets as its user."""
        return self._as_user()

    def _command(self, *arguments):
        return [str(self.binary), *map(str, arguments)]

    def _as_user(self):
        unwanted = ("CI", "ZT_OFF", "RUST_LOG")
        env = {name: value for name, value in os.environ.items()
               if not name.startswith("COUNTERSIGN_") and name not in unwanted}
        options = {"cwd": self.folder, "env": env | {"COUNTERSIGN_DATA": str(self.data)}}
        if self.user is not None:
            options |= {"user": self.user, "group": self.user, "extra_groups": []}
        return options

    def _reachable(self, binary):
        """The unprivileged user may be kept out of the folder that the program is built in."""
        if self.user is None:
            return binary
        place = self.folder / "countersign"
        try:
            os.link(binary, place)
        except OSError:
            shutil.copy(binary, place)
        return place
