#!/usr/bin/env python3
"""schemathesis calls the administration and the vault as their descriptions say, and as they don't.

    COUNTERSIGN_BIN=target/debug/countersign python3 conformance/api/run.py

After it the log has to be consistent, and to hold a decision for each call and no other. The last
line is what was judged, as JSON. Anything else than is expected ends it with status 1.
"""

import ctypes
import http.client
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from program import WAIT, Program, Wrong, check, lacking  # noqa: E402

ADDRESS = "127.0.0.1"
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
          "response_headers_conformance", "response_schema_conformance",
          "negative_data_rejection", "keeps_secrets")
# Examples of each operation in the fuzzing phase, beside those made from the description.
EXAMPLES = os.environ.get("JUDGES_EXAMPLES", "12")
# The fewest calls that tell anything; the descriptions have 26 operations.
FEWEST = {"admin": 300, "vault": 60, "wrong": 1}


class Forwarder:
    """A TCP port in front of the administration socket, for a client that knows no unix sockets.

    A process of the program's user: the server looks at who connects, and the kernel tells it.
    """

    def __init__(self, program, path):
        listener = socket.create_server((ADDRESS, 0), backlog=64)
        self.port = listener.getsockname()[1]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if program.user is not None:
                    os.setgroups([])
                    os.setgid(program.user)
                    os.setuid(program.user)
                    # A process that changed its user is not to be looked at (prctl(2),
                    # PR_SET_DUMPABLE), and the server looks at its namespaces.
                    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
                self._serve(listener, path)
            finally:
                os._exit(1)
        listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)

    @staticmethod
    def _serve(listener, path):
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(path))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=Forwarder._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                end.close()


class Tokens:
    """A file with a token of an identity that is never about to end."""

    def __init__(self, program, identity, path):
        self.program, self.identity, self.path = program, identity, path
        self.failed, self.stop = None, threading.Event()
        self._draw()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def _run(self):
        while not self.stop.wait(15):
            try:
                self._draw()
            except Wrong as error:
                self.failed = error
                return

    def _draw(self):
        token = self.program.run("token", "--for", "vault", "--scope", "secret:read secret:write",
                                 "--identity", self.identity, "-o", "short").strip()
        fresh = self.path.with_suffix(".new")
        fresh.write_text(token)
        fresh.replace(self.path)


class Admin:
    """The administration socket, asked by this script."""

    def __init__(self, port):
        self.port, self.asked = port, 0

    def get(self, path):
        self.asked += 1
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=WAIT)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        check(response.status == 200, f"{path}: {response.status} {body[:300]}")
        return json.loads(body)

    def decisions(self):
        """Every decision in the log by its receipt; none is there twice."""
        found, after = {}, 0
        while page := self.get(f"/v1/admin/records?limit=1000&after={after}"):
            for entry in page:
                if entry["record"]["kind"] == "decision":
                    check(entry["receipt"] not in found, f"{entry['receipt']} is there twice")
                    found[entry["receipt"]] = entry["record"]
            after = max(entry["index"] for entry in page)
        return found


def description(name, values, folder):
    """A description with what there is here among the values of its path parameters."""
    import yaml
    text = (ROOT / "docs" / "reference" / "openapi" / f"{name}.yaml").read_text()
    document = yaml.safe_load(text)
    parameters = list(document["components"].get("parameters", {}).values())
    for item in document["paths"].values():
        parameters += [it for it in item.get("parameters", []) if "$ref" not in it]
    known = set()
    for parameter in parameters:
        if parameter["in"] == "path" and parameter["name"] in values:
            here = values[parameter["name"]]
            parameter["schema"] = {"anyOf": [{"enum": here}, parameter["schema"]]}
            parameter["examples"] = {str(at): {"value": it} for at, it in enumerate(here)}
            known.add(parameter["name"])
    check(known == set(values), f"{name}: parameters {known}")
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


def schemathesis(name, document, url, environment, *more):
    """Runs it; the calls that it made, as its hooks wrote them down."""
    calls = document.with_suffix(".calls")
    calls.touch()
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url,
               "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing",
               "--max-examples", EXAMPLES, "--generation-deterministic",
               "--suppress-health-check", "all",
               "--request-timeout", str(WAIT), "--generation-with-security-parameters", "false",
               "--warnings", "off", "--no-color",
               "--continue-on-failure", *more]
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    environment = os.environ | environment | {
        "SCHEMATHESIS_HOOKS": "hooks", "JUDGES_CALLS": str(calls), "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=document.parent, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=10 * WAIT, check=False)
    check(done.returncode == 0, f"schemathesis at {name}:\n{done.stdout[-24000:]}{done.stderr[-4000:]}")
    made = [json.loads(line) for line in calls.read_text().splitlines()]
    check(len(made) >= FEWEST[name], f"{name}: only {len(made)} calls")
    return made


def of_door(decisions, door, service=None):
    """Receipts of the decisions at a door, of one service or of all."""
    hops = {receipt: record["hop"] for receipt, record in decisions.items()}
    return {receipt for receipt, hop in hops.items()
            if hop["door"] == door and service in (None, hop["service"])}


def judge_admin(program, forwarder, canaries, folder):
    """The calls, and that each has one decision of its own."""
    admin = Admin(forwarder.port)
    receipt = next(iter(admin.decisions()))
    revision = admin.get("/v1/admin/status")["revision"]
    document = description("admin", {
        "name": ["shared", "empty", "written"], "receipt": [receipt, receipt[:8]],
        "revision": [revision, revision[:8]]}, folder)
    before, asked = of_door(admin.decisions(), "admin"), admin.asked
    made = schemathesis("admin", document, f"http://{ADDRESS}:{forwarder.port}", canaries)
    explained(admin, "admin", None, before, lambda: len(made) + admin.asked - asked)
    return made


def judge_vault(program, forwarder, canaries, folder, port):
    """The calls, and that each names a decision that is in the log."""
    admin = Admin(forwarder.port)
    identity = program.folder / "reader"
    program.run("identity", "issue", "reader", "--out", identity)
    document = description("vault", {"name": ["shared", "empty", "written"]}, folder)
    token = folder / "token"
    with Tokens(program, identity, token) as tokens:
        before = of_door(admin.decisions(), "control", "vault")
        made = schemathesis(
            "vault", document, f"https://localhost:{port}", canaries | {"JUDGES_TOKEN": str(token)},
            "--tls-verify", str(identity / "bundle.pem"), "--request-cert",
            str(identity / "svid.pem"), "--request-cert-key", str(identity / "key.pem"))
    check(tokens.failed is None, tokens.failed)
    check(all(call["receipt"] for call in made), f"an answer without a receipt: {made[-1]}")
    receipts = [call["receipt"] for call in made]
    check(len(set(receipts)) == len(receipts), "two answers with one receipt")
    new = explained(admin, "control", "vault", before, lambda: len(made))
    check(set(receipts) == new, "a receipt of nothing")
    return made


def explained(admin, door, service, before, expected):
    """Waits until the log has as many new decisions at a door as there were calls; they."""
    end = time.monotonic() + WAIT
    while True:
        new, wanted = of_door(admin.decisions(), door, service) - before, expected()
        # What lists the record is recorded as well, and may or may not see itself, page by page.
        recent = wanted - len(new)
        if abs(recent) <= (4 if door == "admin" else 0):
            return new
        check(recent > 0 and time.monotonic() < end,
              f"{door}: {len(new)} decisions for {wanted} calls")
        time.sleep(0.2)


def verify(program, key):
    """The log that the program left, verified offline."""
    copy = program.folder / "copy"
    subprocess.run(["cp", "-r", str(program.data / "log"), str(copy)], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
    said = program.run("audit", "verify", copy, "--key", key)
    check("VERIFIED" in said, said)


def judge_the_judge(program, forwarder, canaries, folder):
    """A description that is wrong is found to be: what finds nothing proves nothing."""
    document = description("admin", {}, folder)
    wrong = json.loads(document.read_text())
    status = wrong["components"]["schemas"]["Status"]
    status["properties"]["version"] = {"type": "integer"}
    wrong["paths"] = {"/v1/admin/status": wrong["paths"]["/v1/admin/status"]}
    document = folder / "wrong.json"
    document.write_text(json.dumps(wrong))
    try:
        schemathesis("wrong", document, f"http://{ADDRESS}:{forwarder.port}", canaries)
    except Wrong as error:
        check("violates schema" in str(error).lower(), f"it found something else: {error}")
    else:
        raise Wrong("a wrong description passes")


def main():
    lacks = lacking(["cp", "chmod"], ["schemathesis", "yaml"])
    if lacks:
        print(f"NOT RUN: {lacks}")
        return 77
    hidden = "canary" + secrets.token_hex(24)
    with tempfile.TemporaryDirectory() as folder, \
            Program((HERE / "countersign.yaml").read_text()) as program:
        folder = pathlib.Path(folder)
        said = program.start("up", "--dev", "--control", f"{ADDRESS}:0")
        program.run("secret", "put", "hidden", text=hidden)
        program.run("secret", "put", "shared", text="shown to its reader")
        canaries = {"JUDGES_CANARIES": hidden}
        with Forwarder(program, said["socket"]) as forwarder:
            judge_the_judge(program, forwarder, canaries, folder)
            calls = {"admin": judge_admin(program, forwarder, canaries, folder)}
            port = int(said["control"].rsplit(":", 1)[1])
            calls["vault"] = judge_vault(program, forwarder, canaries, folder, port)
            program.alive()
        # A log that grows while it is copied is no copy of one moment.
        program.stop()
        verify(program, said["log_key"])
        logged = program.log("up").read_text()
        check(hidden not in logged, "a secret is in the log of the process")
        statuses = {name: {str(status): sum(call["status"] == status for call in made)
                           for status in sorted({call["status"] for call in made})}
                    for name, made in calls.items()}
        print(json.dumps({"calls": statuses}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Wrong as error:
        print(f"FAILED: {error}")
        sys.exit(1)
