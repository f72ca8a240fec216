"""A running clinic seen from outside: Python's own TLS and HTTP, `openssl s_client`, curl.

The settings file that the test writes says where things are. Everything here reads what the
program puts on sockets, prints, and keeps; none of it is the program's code.
"""

import base64
import hashlib
import http.client
import io
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

PILLARS = ("", "encryption", "identity", "continuous-verification", "micro-segmentation",
           "least-privilege", "audit")
UNAUTHENTICATED = {"CSD211", "CSD212", "CSD213", "CSD214", "CSD215", "CSD216", "CSD217", "CSD220",
                   "CSD301", "CSD304"}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
HOST = "127.0.0.1"
# For what takes milliseconds: it ends what hangs, and is no measure of how fast anything is.
WAIT = 60


class Wrong(Exception):
    """Something is not as it has to be."""


def check(condition, message):
    if not condition:
        raise Wrong(message)


def pillar_of(code):
    return PILLARS[int(code[3])]


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(token):
    return json.loads(unb64(token.split(".")[1]))


class Answer:
    """What came back on a socket."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}

    @classmethod
    def read(cls, raw):
        """From the bytes of an HTTP/1.1 response."""
        class Held:
            def makefile(self, _mode):
                return io.BytesIO(raw)

        response = http.client.HTTPResponse(Held())
        response.begin()
        return cls(response.status, response.getheaders(), response.read())

    def json(self):
        return json.loads(self.body)

    def __str__(self):
        return f"{self.status} {self.headers} {self.body[:400]!r}"


class Clinic:
    def __init__(self, settings):
        self.settings = json.loads(pathlib.Path(settings).read_text())
        self.folder = pathlib.Path(self.settings["folder"])
        self.domain = self.settings["trust_domain"]
        self.ports = {name: self.settings[name] for name in ("control", "mesh", "web")}
        self.passed = []
        self._source = 0

    # What the program's own commands say.

    def command(self, *arguments):
        return [self.settings["binary"], *map(str, arguments)]

    def run(self, *arguments, text=None, expect=0, env=()):
        """A command of the program, as the user that the server runs as."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")}
        clean |= {"COUNTERSIGN_DATA": self.settings["data"], **dict(env)}
        done = subprocess.run(self.command(*arguments), input=text, capture_output=True, text=True,
                              env=clean, cwd=self.folder, timeout=2 * WAIT, check=False,
                              **self._dropped())
        said = f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
        check(expect is None or done.returncode == expect, said)
        return done

    def document(self, *arguments):
        return json.loads(self.run(*arguments, "-o", "json").stdout)

    def record(self, receipt):
        """The record of a receipt; none if there is none."""
        done = self.run("audit", "show", receipt, "-o", "json", expect=None)
        return json.loads(done.stdout)["record"]["record"] if done.returncode == 0 else None

    def records(self):
        entries = self.document("audit", "tail", "-n", "1000")["records"]
        return [entry["record"] for entry in entries]

    def all_records(self):
        """The whole log but its first leaf, by the administration socket."""
        found, after = [], 0
        while page := self.admin(f"/v1/admin/records?limit=1000&after={after}"):
            found += [entry["record"] for entry in page]
            after = max(entry["index"] for entry in page)
            if len(page) < 1000:
                break
        return found

    def admin(self, path):
        arguments = ["curl", "-sS", "--fail-with-body", "--max-time", str(WAIT), "--unix-socket",
                     f"{self.settings['data']}/run/admin/admin.sock", f"http://localhost{path}"]
        done = subprocess.run(arguments, capture_output=True, check=False, **self._dropped())
        check(done.returncode == 0, f"{path}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def _dropped(self):
        """As the user that the server runs as."""
        user = self.settings["user"]
        return {} if user is None else {"user": user, "group": user, "extra_groups": []}

    def record_from(self, source, code):
        """The one record of what came from this address; it may take a second to be listed."""
        end = time.monotonic() + WAIT
        while True:
            found = [it for it in self.records() if it.get("source_ip") == source]
            if found or time.monotonic() > end:
                break
            time.sleep(0.1)
        check(len(found) == 1, f"{len(found)} records from {source}: {found}")
        record = found[0]
        same = (record.get("code"), record.get("pillar"), record["status"], record["kind"])
        check(same == (code, pillar_of(code), "denied", "decision"),
              f"recorded as {same}, not {code}: {record.get('reason')}")
        return record

    def revoke(self, kind, value):
        self.run("identity", "revoke", kind, value)

    def lift(self, kind, value):
        self.run("identity", "revoke", kind, value, "--lift")

    def issue(self, name, folder):
        self.run("identity", "issue", name, "--out", self.folder / "id" / folder)

    def upstream_bytes(self):
        """Bytes and connections that reached the API or the model, counted on the way there."""
        with socket.create_connection((HOST, self.settings["counter"]), WAIT) as counter:
            return int(counter.makefile("r").read())

    def upstream_settled(self):
        """The same once nothing is left of a call that went there: ends of streams and
        connections come after its answer."""
        count, since = self.upstream_bytes(), time.monotonic()
        while time.monotonic() - since < 1:
            time.sleep(0.05)
            now = self.upstream_bytes()
            if now != count:
                count, since = now, time.monotonic()
        return count

    # Identities.

    def identity(self, folder):
        """Paths of chain and key."""
        base = self.folder / "id" / folder
        return base / "svid.pem", base / "key.pem"

    def roots(self):
        return self.folder / "id" / "research-bot" / "bundle.pem"

    def leaf(self, folder):
        return x509.load_pem_x509_certificate(self.identity(folder)[0].read_bytes())

    def leaf_hash(self, folder):
        return hashlib.sha256(self.leaf(folder).public_bytes(Encoding.DER)).hexdigest()

    def client_id(self, folder):
        names = self.leaf(folder).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return names.value.get_values_for_type(x509.UniformResourceIdentifier)[0]

    def spiffe(self, name):
        return f"spiffe://{self.domain}/{name}"

    def audience(self, service):
        return f"https://{self.domain}/svc/{service}"

    # Python's own client.

    def source(self):
        """An address that nothing else comes from: its record is found by it, and it is in
        nobody else's /24."""
        self._source += 1
        return f"127.{100 + self._source // 250}.{1 + self._source % 250}.1"

    def context(self, identity=None):
        context = ssl.create_default_context(cafile=self.roots())
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if identity is not None:
            chain, key = self.identity(identity) if isinstance(identity, str) else identity
            context.load_cert_chain(chain, key)
        return context

    def connect(self, port, context, source=None, session=None):
        """A TLS connection to a door, verified as `localhost`."""
        bound = None if source is None else (source, 0)
        plain = socket.create_connection((HOST, self.ports[port]), WAIT, bound)
        try:
            return context.wrap_socket(plain, server_hostname="localhost", session=session)
        except (OSError, ssl.SSLError):
            plain.close()
            raise

    def exchange(self, connection, request):
        """One request on a connection that ends with it or not."""
        try:
            connection.sendall(request)
        except OSError:
            pass  # refused before all of it was sent: the answer is there to be read
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())

    def request(self, port, method, path, headers=(), body=b"", identity=None, source=None):
        """One request with exactly these header lines, on a connection of its own."""
        with self.connect(port, self.context(identity), source) as connection:
            return self.exchange(connection, self.raw(method, path, headers, body))

    @staticmethod
    def raw(method, path, headers=(), body=b"", host="localhost"):
        lines = [f"{method} {path} HTTP/1.1".encode(), f"Host: {host}".encode()]
        for name, value in headers:
            lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
        if body or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}".encode())
        lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def form(self, path, fields, identity):
        body = urllib.parse.urlencode(fields).encode()
        kind = ("Content-Type", "application/x-www-form-urlencoded")
        return self.request("control", "POST", path, [kind], body, identity)

    def ask_token(self, identity, service, scope="", subject_token=None):
        fields = {"grant_type": "client_credentials", "audience": service}
        if subject_token is not None:
            fields |= {"grant_type": EXCHANGE, "subject_token": subject_token,
                       "subject_token_type": ACCESS_TOKEN}
        if scope:
            fields["scope"] = scope
        return self.form("/oauth2/token", fields | {"client_id": self.client_id(identity)}, identity)

    def token(self, identity, service, scope="", subject_token=None):
        answer = self.ask_token(identity, service, scope, subject_token)
        check(answer.status == 200, f"no token for {identity}: {answer}")
        return answer.json()["access_token"]

    def jwks(self):
        return self.request("control", "GET", "/oauth2/jwks", identity="research-bot").json()

    # Seeing all of a refusal.

    def refused(self, name, answer, code, form="problem", status=None):
        """Status, headers, body and record of a refusal by this code, and that the upstreams saw
        no byte. Returns the record."""
        said = f"{name}: {answer}"
        pillar = pillar_of(code)
        expected = status or (401 if code in UNAUTHENTICATED else 403)
        if form == "vault" and expected == 401:
            expected = 403  # Vault has one status for who is not known and for who may not
        check(answer.status == expected, f"expected {expected}; {said}")
        receipt = answer.headers.get("countersign-receipt", "")
        check(receipt.startswith("r-"), f"no receipt; {said}")
        check(answer.headers.get("countersign-pillar") == pillar, f"expected {pillar}; {said}")
        check(answer.headers.get("cache-control") == "no-store", f"may be kept; {said}")
        check(("www-authenticate" in answer.headers) == (expected == 401), said)
        self._body(said, answer, code, form, expected, receipt)
        record = self.record(receipt)
        check(record is not None, f"no record of {receipt}; {said}")
        same = (record.get("pillar"), record.get("code"), record["status"], record["kind"])
        check(same == (pillar, code, "denied", "decision"), f"recorded as {same}; {said}")
        reason = record["reason"].encode()
        check(reason and reason not in answer.body, f"the caller was told why; {said}")
        told = answer.body + repr(answer.headers).encode() + json.dumps(record).encode()
        for canary in self.settings["canaries"]:
            check(canary.encode() not in told, f"a secret got out; {said}")
        check(self.upstream_bytes() == self.settings.get("before", 0), f"it went on; {said}")
        self.passes(name)
        return record

    @staticmethod
    def _body(said, answer, code, form, status, receipt):
        title = f"AccessDenied: pillar {pillar_of(code)} failed"
        kind = "application/problem+json" if form == "problem" else "application/json"
        check(answer.headers.get("content-type") == kind, said)
        body = answer.json()
        if form == "vault":
            check(body == {"errors": ["permission denied", title]}, said)
            return
        common = {"code": code, "pillar": pillar_of(code), "receipt": receipt}
        if form == "oauth":
            check(body == common | {"error": body.get("error"), "error_description": title}, said)
            return
        check(body == common | {"status": status, "title": title, "type": body.get("type")}, said)
        check(str(body["type"]).endswith(f"/{code}"), said)

    def passes(self, name):
        self.passed.append(name)
        print(f"refused  {name}", flush=True)

    # A browser.

    def sign_in(self, member):
        """The value of the session cookie of a member of `login: dev`."""
        page = self.request("web", "GET", "/.countersign/login")
        cookie = page.headers["set-cookie"].split(";")[0]
        form = page.body.decode().split('name="form" value="')[1].split('"')[0]
        body = urllib.parse.urlencode({"form": form, "return": "/", "member": member}).encode()
        headers = [("Cookie", cookie), ("Sec-Fetch-Site", "same-origin"),
                   ("Content-Type", "application/x-www-form-urlencoded")]
        with self.connect("web", self.context()) as connection:
            connection.sendall(self.raw("POST", "/.countersign/login", headers, body))
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
        for line in response.headers.get_all("set-cookie") or []:
            name, _, value = line.split(";")[0].partition("=")
            if name == "__Host-cs" and value:
                return value
        raise Wrong(f"signing in answered {response.status}")

    @staticmethod
    def as_browser(cookie):
        return [("Cookie", f"__Host-cs={cookie}"), ("Sec-Fetch-Site", "same-origin"),
                ("Content-Type", "application/json")]


def main(play):
    """Runs `play(clinic)`; the last line lists what was seen to be refused. What goes wrong ends
    the script with its traceback."""
    clinic = Clinic(sys.argv[1])
    play(clinic)
    print(json.dumps({"passed": clinic.passed}))
