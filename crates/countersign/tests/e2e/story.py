#!/usr/bin/env python3
"""The attacks of the tour, each made by Python, curl and `openssl s_client`.
Usage: story.py SETTINGS
"""

import shutil
import ssl
import subprocess

from clinic import HOST, WAIT, Answer, check, main

SUMMARY = "/ai/summary"
PROMPT = b'{"prompt":"Summarize the visit"}'


class Python:
    name = "Python"

    def __init__(self, clinic):
        self.clinic = clinic

    def send(self, port, method, path, headers, body=b"", identity=None):
        return self.clinic.request(port, method, path, headers, body, identity)

    def old_tls(self, source):
        context = self.clinic.context("research-bot")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            self.clinic.connect("mesh", context, source).close()
        except ssl.SSLError as error:
            return str(error)
        return "connected"


class Curl:
    name = "curl"

    def __init__(self, clinic):
        self.clinic = clinic

    def arguments(self, port, identity):
        found = ["curl", "-sS", "--http1.1", "--max-time", str(WAIT), "--cacert",
                 str(self.clinic.roots()), "--resolve", f"localhost:{self.clinic.ports[port]}:{HOST}"]
        if identity is not None:
            chain, key = self.clinic.identity(identity)
            found += ["--cert", str(chain), "--key", str(key)]
        return found

    def url(self, port, path):
        return f"https://localhost:{self.clinic.ports[port]}{path}"

    def send(self, port, method, path, headers, body=b"", identity=None):
        arguments = self.arguments(port, identity) + ["-i", "-X", method]
        for name, value in headers:
            arguments += ["-H", f"{name}: {value}"]
        if body:
            arguments += ["--data-binary", "@-"]
        done = subprocess.run(arguments + [self.url(port, path)], input=body, capture_output=True,
                              timeout=2 * WAIT, check=False)
        check(done.returncode == 0, f"curl: {done.stderr.decode()}")
        return Answer.read(done.stdout)

    def old_tls(self, source):
        arguments = self.arguments("mesh", "research-bot")
        arguments += ["--tls-max", "1.2", "--interface", source, self.url("mesh", "/")]
        done = subprocess.run(arguments, capture_output=True, timeout=2 * WAIT, check=False)
        return done.stderr.decode() if done.returncode else "connected"


class OpenSsl:
    name = "openssl"

    def __init__(self, clinic):
        self.clinic = clinic

    def arguments(self, port, identity):
        found = ["openssl", "s_client", "-connect", f"{HOST}:{self.clinic.ports[port]}",
                 "-servername", "localhost", "-CAfile", str(self.clinic.roots()),
                 "-verify_return_error", "-verify_hostname", "localhost"]
        if identity is not None:
            chain, key = self.clinic.identity(identity)
            found += ["-cert", str(chain), "-cert_chain", str(chain), "-key", str(key)]
        return found

    def send(self, port, method, path, headers, body=b"", identity=None):
        arguments = self.arguments(port, identity) + ["-quiet"]
        done = subprocess.run(arguments, input=self.clinic.raw(method, path, headers, body),
                              capture_output=True, timeout=WAIT, check=False)
        check(done.stdout.startswith(b"HTTP/1.1 "), f"openssl: {done.stdout!r} {done.stderr!r}")
        return Answer.read(done.stdout)

    def old_tls(self, source):
        arguments = self.arguments("mesh", "research-bot")
        arguments += ["-tls1_2", "-bind", f"{source}:0"]
        done = subprocess.run(arguments, input=b"", capture_output=True, timeout=WAIT, check=False)
        return (done.stdout + done.stderr).decode(errors="replace") if done.returncode else "connected"


def attacks(clinic, client):
    """The five that ask for something, by one client."""
    source = clinic.source()
    said = client.old_tls(source)
    check("protocol version" in said.lower().replace("_", " "), f"TLS 1.2 by {client.name}: {said}")
    record = clinic.record_from(source, "CSD101")
    check(record["hop"]["door"] == "mesh", f"{record}")
    clinic.passes(f"TLS 1.2, {client.name}")

    token = clinic.token("research-bot", "hms-api", "ai:invoke-summary")
    stolen = [("Authorization", f"Bearer {token}")]
    answer = client.send("mesh", "POST", f"/~/hms-api{SUMMARY}", stolen, PROMPT, "stats-worker")
    clinic.refused(f"stolen token, {client.name}", answer, "CSD216")

    cookie = clinic.sign_in("user:dev/alice")
    answer = client.send("web", "POST", "/reports", clinic.as_browser(cookie), b'{"text":"mine"}')
    record = clinic.refused(f"report, {client.name}", answer, "CSD502")
    check(record["principal"]["id"].endswith("dev:alice") or "dev" in str(record["principal"]),
          f"{record['principal']}")
    clinic.revoke("session", record["hop"]["evidence"]["session"]["sid"])
    answer = client.send("web", "POST", SUMMARY, clinic.as_browser(cookie), PROMPT)
    clinic.refused(f"revoked session, {client.name}", answer, "CSD304")

    own = clinic.ask_token("stats-worker", "vault", "ai:key:read")
    clinic.refused(f"token for the vault, {client.name}", own, "CSD401", "oauth", 403)
    read = clinic.token("hms-api", "vault", "ai:key:read")
    answer = client.send("control", "GET", "/v1/secret/data/openai_primary",
                         [("X-Vault-Token", read)], identity="stats-worker")
    clinic.refused(f"secret with a stolen token, {client.name}", answer, "CSD216", "vault")


def allowed(clinic, client):
    cookie = clinic.sign_in("user:dev/alice")
    answer = client.send("web", "POST", SUMMARY, clinic.as_browser(cookie), PROMPT)
    check(answer.status == 200, f"alice's summary by {client.name}: {answer}")
    check(answer.json()["model_saw_our_token"] is False, f"{answer}")
    record = clinic.record(answer.headers["countersign-receipt"])
    check(record["status"] == "success", f"{record}")


def tampered(clinic):
    """The sixth attack is on the record: a copy with one word changed is found out."""
    log, copy = f"{clinic.settings['data']}/log", clinic.folder / "copy"
    shutil.copytree(log, copy)
    key = clinic.settings["log_key"]
    if (user := clinic.settings["user"]) is not None:
        for path in [copy, *copy.rglob("*")]:
            shutil.chown(path, user, user)
    good = clinic.run("audit", "verify", copy, "--key", key)
    check("VERIFIED" in good.stdout, f"{good}")
    bundles = [it for it in (copy / "tile" / "entries").rglob("*") if it.is_file()]
    changed = [it for it in bundles if b'"status":"denied"' in it.read_bytes()]
    check(changed, "nothing to change")
    for path in changed:
        path.write_bytes(path.read_bytes().replace(b'"status":"denied"', b'"status":"permit"', 1))
    bad = clinic.run("audit", "verify", copy, "--key", key, expect=5)
    check("TAMPERED" in bad.stdout + bad.stderr, f"{bad}")
    clinic.passes("a changed record")


def play(clinic):
    clients = [Python(clinic), Curl(clinic), OpenSsl(clinic)]
    for client in clients:
        attacks(clinic, client)
    tampered(clinic)
    for client in clients:
        before = clinic.upstream_bytes()
        allowed(clinic, client)
        check(clinic.upstream_bytes() > before, "the allowed request was not seen on its way")


if __name__ == "__main__":
    main(play)
