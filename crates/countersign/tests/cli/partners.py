#!/usr/bin/env python3
"""Partners at their doors, from outside: certificates by Python's cryptography, requests by curl.
Usage: partners.py BINARY FOLDER

Three partners: globex and hooli are two names of one authority, initech has an authority of its
own with an intermediate. They share one door, and initech has another to itself. What must open
nothing comes from an address of its own, by which its record is found: a handshake ends in an
alert, so there is no answer and no receipt.
"""

import base64
import datetime
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BINARY, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
NOW = datetime.datetime.now(datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
PEM = serialization.Encoding.PEM
# It ends what hangs, and is no measure of how fast anything is.
WAIT = 60
PILLARS = {"2": "identity", "3": "continuous-verification", "4": "micro-segmentation"}

CONFIG = """
environment: dev
trust_domain: acme.dev.invalid
listeners:
  shared: {{ bind: "127.0.0.1:0", peer: partner, hosts: [localhost], client_ca: both.pem }}
  alone:  {{ bind: "127.0.0.1:0", peer: partner, hosts: [localhost], client_ca: {alone} }}
  mesh:   {{ bind: "127.0.0.1:0", peer: service }}
identities:
  globex:  {{ kind: partner, certificate: {{ ca: globex.pem, dns: api.globex.example }} }}
  hooli:   {{ kind: partner, certificate: {{ ca: globex.pem, dns: api.hooli.example }} }}
  initech: {{ kind: partner, certificate: {{ ca: {alone}, dns: api.initech.example }} }}
  orders:  {{}}
roles:
  readers: {{ members: [globex, initech], may: ["report:read"] }}
services:
  reports:
    peer: service
    identity: orders
    url: "http://127.0.0.1:{upstream}"
    operations:
      GET /v1/**: {{ needs: "report:read" }}
      POST /v1/**: {{ needs: edge }}
edges:
  globex -> reports: [GET /v1/**]
  alone  -> reports: [GET /v1/door/**]
tests:
  they see reports:       {{ as: globex, via: shared, call: GET reports/v1/7, expect: allow }}
  they see only reports:  {{ as: globex, via: shared, call: POST reports/v1/7, expect: deny micro-segmentation }}
"""


def check(condition, message):
    if not condition:
        raise SystemExit(f"WRONG: {message}")


def usage(**on):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


class Authority:
    """A CA; under another, an intermediate."""

    def __init__(self, name, above=None, public_key=None):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        self.above = above
        signer = above or self
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(signer.name)
            .public_key(public_key or self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - HOUR).not_valid_after(NOW + HOUR)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(signer.key, hashes.SHA256()))

    def pem(self):
        return self.certificate.public_bytes(PEM)

    def issue(self, file, names, key=None, ends=None, authority=False, purposes=(CLIENT,), uris=()):
        """Writes chain and key of a client; the name of the files."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.globex.example")])
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * HOUR).not_valid_after(ends or NOW + HOUR)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(usage(digital_signature=True, key_cert_sign=authority), critical=True))
        shown = [x509.DNSName(it) for it in names]
        shown += [x509.UniformResourceIdentifier(it) for it in uris]
        if shown:
            builder = builder.add_extension(x509.SubjectAlternativeName(shown), critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        chain = builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)
        if self.above:
            chain += self.pem()
        (FOLDER / f"{file}.crt").write_bytes(chain)
        (FOLDER / f"{file}.key").write_bytes(key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return file


def digest(file):
    leaf = x509.load_pem_x509_certificate((FOLDER / f"{file}.crt").read_bytes())
    return hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER))


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that it got."""
    calls = 0

    def do_GET(self):
        Upstream.calls += 1
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Run:
    """A running server with its gateway."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.sources = 0
        self.environment = {k: v for k, v in os.environ.items()
                            if not k.startswith("COUNTERSIGN_") and k not in ("CI", "ZT_OFF")}
        self.environment["COUNTERSIGN_DATA"] = str(FOLDER / "data")

    def configure(self, alone="initech.pem"):
        text = CONFIG.format(upstream=self.upstream, alone=alone)
        (FOLDER / "countersign.yaml").write_text(text)

    def command(self, *arguments, expect=0):
        done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, cwd=FOLDER,
                              env=self.environment, timeout=2 * WAIT, check=False)
        said = f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
        check(done.returncode == 0 if expect == 0 else done.returncode != 0, said)
        return done.stdout if expect == 0 else done.stdout + done.stderr

    def start(self):
        log = open(FOLDER / "up.log", "w")
        self.process = subprocess.Popen(
            [BINARY, "up", "--dev", "--control", "127.0.0.1:0", "-o", "json"], cwd=FOLDER,
            env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True)
        text = ""
        for line in self.process.stdout:
            text += line
            try:
                started = json.loads(text)
                break
            except json.JSONDecodeError:
                continue
        else:
            check(False, (FOLDER / "up.log").read_text())
        self.ports = {door: int(at.rsplit(":", 1)[1]) for door, at in started["listeners"].items()}
        self.command("identity", "issue", "orders", "--out", str(FOLDER / "orders"))
        for ours, theirs in (("svid.pem", "orders.crt"), ("key.pem", "orders.key")):
            (FOLDER / theirs).write_bytes((FOLDER / "orders" / ours).read_bytes())

    def source(self):
        """An address that nothing else comes from."""
        self.sources += 1
        return f"127.{77 + self.sources // 250}.{self.sources % 250}.1"

    def s_client(self, door, file):
        """A handshake by openssl, which does not mind that its own key is weak: status 0, what it
        said, and the address it came from. It sends nothing, so nothing comes before the alert."""
        source = self.source()
        arguments = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.ports[door]}",
                     "-bind", f"{source}:0", "-servername", "localhost", "-verify_return_error",
                     "-CAfile", str(FOLDER / "orders" / "bundle.pem"), "-ign_eof",
                     "-cipher", "DEFAULT:@SECLEVEL=0"]
        if file:
            chain = str(FOLDER / f"{file}.crt")
            arguments += ["-cert", chain, "-cert_chain", chain, "-key", str(FOLDER / f"{file}.key")]
        done = subprocess.run(arguments, input="", capture_output=True, text=True, timeout=WAIT,
                              check=False)
        said = done.stdout + done.stderr
        check("alert" in said, f"{file} at {door}: no alert: {said}")
        return 0, {}, said, source

    def curl(self, door, path, file, *more):
        """Status, headers and body; status 0 where there is no answer. The address it came from."""
        source = self.source()
        arguments = ["curl", "-sS", "-i", "--max-time", str(WAIT), "--interface", source,
                     "--cacert", str(FOLDER / "orders" / "bundle.pem"), *more]
        if file:
            arguments += ["--cert", str(FOLDER / f"{file}.crt"), "--key", str(FOLDER / f"{file}.key")]
        url = f"https://localhost:{self.ports[door]}{path}"
        done = subprocess.run([*arguments, url], capture_output=True, text=True, check=False)
        if done.returncode != 0 and not done.stdout:
            return 0, {}, done.stderr, source
        head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        return int(first.split()[1]), {k.lower(): v for k, v in headers.items()}, body, source

    def token(self, door, file, service="reports", *more):
        client = file if file in ("hooli", "initech") else "globex"
        form = ["-d", "grant_type=client_credentials", "-d", f"audience={service}",
                "-d", f"client_id={client}", *more]
        return self.curl(door, "/oauth2/token", file, *form)

    def granted(self, door, file):
        status, headers, body, _ = self.token(door, file)
        check(status == 200, f"no token for {file} at {door}: {status} {headers} {body}")
        return json.loads(body)["access_token"]

    def call(self, door, file, token, path="/v1/7", *more):
        with_token = ["-H", f"Authorization: Bearer {token}"] if token else []
        return self.curl(door, f"/~/reports{path}", file, *with_token, *more)

    def refused(self, name, answer, code, principal=None):
        """What the caller was told, the record, and that nothing went on."""
        status, headers, body, source = answer
        pillar = PILLARS[code[3]]
        if status:
            check(headers.get("countersign-pillar") == pillar, f"{name}: {status} {headers} {body}")
            check(json.loads(body)["code"] == code, f"{name}: {body}")
            receipt = headers["countersign-receipt"]
            shown = json.loads(self.command("audit", "show", receipt, "-o", "json"))
            record = shown["record"]["record"]
        else:
            record = self.record_from(name, source)
        said = (record.get("code"), record.get("pillar"), record["status"])
        check(said == (code, pillar, "denied"), f"{name}: recorded as {said}: {record.get('reason')}")
        if principal:
            check(record["principal"]["id"] == principal, f"{name}: {record['principal']}")
        check(Upstream.calls == self.seen, f"{name}: it went on")
        print(f"refused  {code}: {name}", flush=True)
        return record

    def record_from(self, name, source):
        """The one record of what came from this address; it may take a second to be listed."""
        end = time.monotonic() + WAIT
        while True:
            page = json.loads(self.command("audit", "tail", "-n", "1000", "-o", "json"))["records"]
            found = [it["record"] for it in page if it["record"].get("source_ip") == source]
            if found or time.monotonic() > end:
                break
            time.sleep(0.1)
        check(len(found) == 1, f"{name}: {len(found)} records from {source}: {found}")
        return found[0]

    def allowed(self, name, answer):
        status, headers, body, _ = answer
        self.seen += 1
        check(status == 200 and Upstream.calls == self.seen, f"{name}: {status} {headers} {body}")
        print(f"allowed  {name}", flush=True)
        return json.loads(body)

    seen = 0


def at_their_doors(run):
    """A bound token at the own door, and what it opens."""
    token = run.granted("shared", "globex")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    bound = base64.urlsafe_b64encode(digest("globex").digest()).decode().rstrip("=")
    check(claims["sub"] == "spiffe://acme.dev.invalid/globex" == claims["client_id"], claims)
    check(claims["cnf"] == {"x5t#S256": bound}, claims)
    check(claims["exp"] - claims["iat"] == 60, claims)
    check(claims["aud"] == "https://acme.dev.invalid/svc/reports", claims)
    check(claims["scope"] == "report:read", claims)
    spoofed = [f"{name}: Subject=CN=orders" for name in (
        "X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "X-Client-Cert", "Client-Cert")]
    spoofed = [it for header in spoofed for it in ("-H", header)]
    got = run.allowed("globex reads a report", run.call("shared", "globex", token, "/v1/7", *spoofed))
    check(got["authorization"] == f"Bearer {token}", "the service did not get its token")
    check("countersign-assertion" in got or any("assertion" in it for it in got), got)
    check(not any("client-cert" in it for it in got), f"a claimed certificate went on: {got}")
    run.refused("globex writes", run.call("shared", "globex", token, "/v1/7", "-X", "POST"),
                "CSD401", "spiffe://acme.dev.invalid/globex")
    run.refused("without a token", run.call("shared", "globex", None), "CSD211")
    run.refused("a token by hooli, who has no edge", run.token("shared", "hooli"), "CSD401")
    run.refused("a token stolen by hooli", run.call("shared", "hooli", token), "CSD216")
    run.refused("a token stolen by initech", run.call("shared", "initech", token), "CSD216")
    run.refused("a token for what no edge leads to", run.token("shared", "globex", "model"), "CSD401")
    other = run.granted("alone", "initech")
    run.allowed("initech by its door's edge", run.call("alone", "initech", other, "/v1/door/1"))
    run.refused("initech where it has no edge", run.call("shared", "initech", other, "/v1/door/1"),
                "CSD401", "spiffe://acme.dev.invalid/initech")
    again = run.granted("shared", "globex2")
    run.refused("a token of globex at globex's other certificate",
                run.call("shared", "globex2", token), "CSD216")
    run.allowed("another certificate of the same partner", run.call("shared", "globex2", again))
    said = run.command("identity", "issue", "globex", "--out", str(FOLDER / "posed"), expect=1)
    check("is a partner" in said, said)
    return token


def certificates(run, globex, initech):
    """Certificates that open nothing."""
    for name, file in (
            ("another partner's name", globex.issue("cross", ["api.initech.example"])),
            ("a wildcard", globex.issue("wildcard", ["*.globex.example"])),
            ("a name of nobody", globex.issue("nobody", ["x.globex.example"])),
            ("two partners at once", globex.issue("two", ["api.globex.example", "api.hooli.example"]))):
        run.refused(name, run.token("shared", file), "CSD225")
        run.refused(f"{name}, called", run.call("shared", file, None), "CSD225")
    run.refused("initech's authority, globex's name", run.token(
        "shared", initech.issue("lent", ["api.globex.example"])), "CSD225")
    ours = "spiffe://acme.dev.invalid/orders"
    good = ["api.globex.example"]
    cases = [
        ("no certificate", None, "CSD201"),
        ("another authority", Authority("Globex").issue("other", good), "CSD202"),
        ("our own svid", "orders", "CSD202"),
        ("one that says it is ours", globex.issue("posing", good, uris=[ours], purposes=(CLIENT, SERVER)), "CSD202"),
        ("expired", globex.issue("expired", good, ends=NOW - HOUR), "CSD203"),
        ("no purpose", globex.issue("no-eku", good, purposes=()), "CSD204"),
        ("for servers", globex.issue("server", good, purposes=(SERVER,)), "CSD204"),
        ("for any purpose", globex.issue("any", good, purposes=(
            CLIENT, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)), "CSD204"),
        ("an authority as leaf", globex.issue("ca", good, authority=True), "CSD204"),
        ("only a common name", globex.issue("cn", []), "CSD204"),
        ("weak key", globex.issue("weak", good, key=rsa.generate_private_key(65537, 1024)), "CSD205"),
        ("unknown curve", globex.issue("curve", good, key=ec.generate_private_key(ec.SECP521R1())),
         "CSD205"),
    ]
    for name, file, code in cases:
        run.refused(f"{name}, by openssl", run.s_client("shared", file), code)
        if code != "CSD205":  # curl does not load such a key
            answer = run.token("shared", file)
            check(answer[0] == 0, f"{name} was answered: {answer}")
            run.refused(f"{name}, by curl", answer, code)
    for door, file, code in (("alone", "globex", "CSD202"), ("mesh", "globex", "CSD204"),
                             ("mesh", "posing", "CSD202")):
        answer = run.token(door, file)
        check(answer[0] == 0, f"{file} at {door} was answered: {answer}")
        run.refused(f"{file} at {door}", answer, code)


def revocations(run):
    """By certificate, identity and subject, as for workloads."""
    globex = "spiffe://acme.dev.invalid/globex"
    for kind, value in (("certificate", digest("globex").hexdigest()), ("identity", "globex"),
                        ("subject", globex)):
        token = run.granted("shared", "globex")
        run.command("identity", "revoke", kind, value)
        run.refused(f"a revoked {kind}", run.call("shared", "globex", token), "CSD303", globex)
        run.refused(f"a token for a revoked {kind}", run.token("shared", "globex"), "CSD303", globex)
        run.command("identity", "revoke", kind, value, "--lift")
    token = run.granted("shared", "globex")
    jti = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["jti"]
    run.command("identity", "revoke", "token", jti)
    run.refused("a revoked token", run.call("shared", "globex", token), "CSD301", globex)
    run.allowed("globex again", run.call("shared", "globex", run.granted("shared", "globex")))


def our_own(run):
    """Our own authority as a partner's, by its file and by its key."""
    bundle = (FOLDER / "orders" / "bundle.pem").read_bytes()
    (FOLDER / "ours.pem").write_bytes(bundle)
    run.configure("ours.pem")
    check("CS0330" in run.command("check", "--dev", expect=1), "our own authority was taken")
    root = x509.load_pem_x509_certificate(bundle)
    (FOLDER / "posed.pem").write_bytes(Authority("Posed", public_key=root.public_key()).pem())
    run.configure("posed.pem")
    said = run.command("reload", expect=1)
    check("key of our own authority" in said, said)
    run.allowed("globex under the policy that stayed",
                run.call("shared", "globex", run.granted("shared", "globex")))


def main():
    globex, root = Authority("Globex"), Authority("Initech root")
    initech = Authority("Initech clients", above=root)
    for file, pem in (("globex", globex.pem()), ("initech", root.pem()),
                      ("both", globex.pem() + root.pem())):
        (FOLDER / f"{file}.pem").write_bytes(pem)
    globex.issue("globex", ["api.globex.example"])
    globex.issue("globex2", ["other.globex.example", "API.Globex.example"], purposes=(CLIENT, SERVER))
    globex.issue("hooli", ["api.hooli.example"])
    initech.issue("initech", ["api.initech.example"], key=rsa.generate_private_key(65537, 2048))
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    run = Run(upstream.server_address[1])
    run.configure()
    run.start()
    try:
        at_their_doors(run)
        certificates(run, globex, initech)
        revocations(run)
        our_own(run)
    finally:
        run.process.terminate()
        run.process.wait(WAIT)
    print("OK")


main()
