#!/usr/bin/env python3
"""Client certificates that must open nothing, at the mesh door and at the control port.
Usage: certificates.py SETTINGS

Each comes from an address of its own, by which its record is found: the handshake ends in an
alert, so there is no answer and no receipt.
"""

import datetime
import ipaddress
import pathlib
import ssl
import subprocess
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clinic import WAIT, Answer, Wrong, check, main

NOW = datetime.datetime.now(datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
REPORT = "/~/hms-api/reports/1"


def key_usage(**on):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: on.get(name, False) for name in names})


class Authority:
    """Somebody else's CA. It may call itself what it likes."""

    def __init__(self, clinic, name=None):
        self.clinic = clinic
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name or x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Other CA")])
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name)
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(NOW - HOUR).not_valid_after(NOW + HOUR)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(self.key, hashes.SHA256()))

    def issue(self, folder, uris=None, key=None, ends=None, authority=False, usages=BOTH,
              usage=None, dns=False, self_signed=False):
        """Writes chain and key; both paths."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        uris = [self.clinic.spiffe("research-bot")] if uris is None else uris
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        if dns:
            names = [x509.DNSName("research-bot")]
        builder = (
            x509.CertificateBuilder().subject_name(self.name if self_signed else x509.Name([]))
            .issuer_name(self.name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * HOUR).not_valid_after(ends or NOW + HOUR)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(usage or key_usage(digital_signature=True), critical=True))
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        leaf = builder.sign(key if self_signed else self.key, hashes.SHA256())
        base = self.clinic.folder / "id" / folder
        base.mkdir()
        pem = serialization.Encoding.PEM
        chain = leaf.public_bytes(pem)
        if not self_signed:
            chain += self.certificate.public_bytes(pem)
        (base / "svid.pem").write_bytes(chain)
        (base / "key.pem").write_bytes(key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return folder


def wrong(clinic):
    """Name, folder of the identity, code."""
    other = Authority(clinic)
    real = x509.load_pem_x509_certificates(clinic.identity("research-bot")[0].read_bytes())
    named = Authority(clinic, real[0].issuer)
    bot = clinic.spiffe("research-bot")
    yield "other CA", other.issue("other"), "CSD202"
    yield "other CA of the same name", named.issue("named"), "CSD202"
    yield "self-signed", other.issue("self", self_signed=True), "CSD202"
    yield "SAN of another trust domain", other.issue("domain", [
        "spiffe://elsewhere.invalid/research-bot"]), "CSD202"
    yield "expired", other.issue("expired", ends=NOW - HOUR), "CSD203"
    yield "two URI SANs", other.issue("two", [bot, "https://localhost/"]), "CSD204"
    yield "two SPIFFE IDs", other.issue("spiffes", [bot, clinic.spiffe("hms-api")]), "CSD204"
    yield "no URI SAN", other.issue("dns", dns=True), "CSD204"
    yield "no SPIFFE ID", other.issue("https", ["https://localhost/research-bot"]), "CSD204"
    yield "CA as leaf", other.issue("authority", authority=True, usage=key_usage(
        digital_signature=True, key_cert_sign=True)), "CSD204"
    yield "may sign certificates", other.issue("signs", usage=key_usage(
        digital_signature=True, key_cert_sign=True)), "CSD204"
    yield "no EKU", other.issue("no-eku", usages=()), "CSD204"
    yield "EKU for servers only", other.issue("server-eku", usages=BOTH[1:]), "CSD204"
    yield "weak key", other.issue("weak", key=rsa.generate_private_key(65537, 1024)), "CSD205"
    yield "unknown curve", other.issue("curve", key=ec.generate_private_key(ec.SECP521R1())), "CSD205"


def refused_by_python(clinic, port, folder, source):
    """TLS 1.3: the client believes it is through, sends its request and reads the alert. The door
    closes shortly after the alert; a client that is slow to send hears of the reset instead."""
    context = clinic.context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if folder is not None:
        context.load_cert_chain(*clinic.identity(folder))
    try:
        with clinic.connect(port, context, source) as connection:
            connection.sendall(clinic.raw("GET", REPORT))
            got = connection.recv(1)
    except ConnectionError:
        return
    except ssl.SSLError as error:
        check("alert" in str(error).lower(), f"{folder} at {port}: {error}")
        return
    raise Wrong(f"{folder} at {port} was let in: {got!r}")


def refused_by_openssl(clinic, port, folder, source):
    """Who sees the alert: another program. It sends nothing, so nothing comes before the alert."""
    arguments = s_client(clinic, port, source) + ["-cipher", "DEFAULT:@SECLEVEL=0"]
    if folder is not None:
        chain, key = clinic.identity(folder)
        arguments += ["-cert", chain, "-cert_chain", chain, "-key", key]
    done = subprocess.run(arguments, input=b"", capture_output=True, timeout=WAIT, check=False)
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    check("alert" in said, f"{folder} at {port}: no alert: {said}")


def s_client(clinic, port, source):
    return ["openssl", "s_client", "-connect", f"127.0.0.1:{clinic.ports[port]}", "-bind",
            f"{source}:0", "-servername", "localhost", "-CAfile", str(clinic.roots()),
            "-verify_return_error", "-ign_eof"]


def handshakes(clinic):
    cases = [("no certificate", None, "CSD201"), *wrong(clinic)]
    tried = []
    for name, folder, code in cases:
        for port in ("mesh", "control"):
            for client, play in (("Python", refused_by_python), ("openssl", refused_by_openssl)):
                source = clinic.source()
                play(clinic, port, folder, source)
                tried.append((f"{port}: {name}, {client}", source, folder, port, code))
    for name, source, folder, port, code in tried:
        record = clinic.record_from(source, code)
        peer = record["hop"]["evidence"]["peer"]["refused"]
        leaf = None if folder is None else clinic.leaf_hash(folder)
        check(peer.get("leaf") == leaf, f"{name}: leaf {peer}")
        check(record["hop"]["door"] == port, f"{name}: {record['hop']['door']}")
        check(record["principal"]["id"] == "anonymous", f"{name}: {record['principal']}")
        ipaddress.ip_address(record["source_ip"])
        clinic.passes(name)


def ask(clinic, context, token, session=None):
    """A request by the bot on a connection of its own; answer, session, whether it was resumed."""
    shown = [("Authorization", f"Bearer {token}")]
    with clinic.connect("mesh", context, session=session) as connection:
        answer = clinic.exchange(connection, clinic.raw("GET", REPORT, shown))
        return answer, connection.session, connection.session_reused


def openssl_request(clinic, token, folder, *more):
    chain, key = clinic.identity(folder)
    shown = [("Authorization", f"Bearer {token}")]
    arguments = s_client(clinic, "mesh", clinic.source()) + [
        "-cert", chain, "-cert_chain", chain, "-key", key, *more]
    done = subprocess.run(arguments, input=clinic.raw("GET", REPORT, shown), capture_output=True,
                          timeout=WAIT, check=False)
    said = done.stdout + done.stderr
    check(b"HTTP/1.1 " in done.stdout, f"no answer: {said.decode(errors='replace')}")
    start = done.stdout.index(b"HTTP/1.1 ")
    return Answer.read(done.stdout[start:]), b"Reused, TLSv1.3" in done.stdout


def revoked(clinic):
    """A certificate is revoked while connections and sessions of it live. All that happens between
    the drawing of a token and its last use is asked first and looked into afterwards."""
    clinic.issue("research-bot", "victim")
    context = clinic.context("victim")
    saved = str(pathlib.Path(clinic.folder) / "session.pem")

    def draw():
        return clinic.token("victim", "hms-api")

    answer, session, reused = ask(clinic, context, draw())
    check(session is not None and not reused, "no session to resume")
    answers = [answer, openssl_request(clinic, draw(), "victim", "-sess_out", saved)[0]]
    # A ticket is good once; this use of it brings the next.
    answer, session, reused = ask(clinic, context, draw(), session)
    check(reused, "the session can't be resumed at all")
    answers.append(answer)
    for answer in answers:
        # Good certificate, good token, and no edge to this operation: the six pillars were asked.
        clinic.refused("before the revocation", answer, "CSD401")
    leaf = clinic.leaf_hash("victim")
    while_revoked(clinic, context, leaf, draw(), (session, saved))
    clinic.lift("certificate", leaf)
    answer, _, _ = ask(clinic, context, draw())
    clinic.refused("after the revocation was lifted", answer, "CSD401")
    clinic.revoke("identity", "stats-worker")
    answer = clinic.ask_token("stats-worker", "hms-api")
    clinic.refused("control: revoked identity", answer, "CSD303", "oauth", 401)


def while_revoked(clinic, context, leaf, token, sessions):
    """On a connection that was open before, on new ones, resumed by either client, and at the
    issuer."""
    shown = [("Authorization", f"Bearer {token}")]
    kept = clinic.raw("GET", REPORT, shown).replace(b"Connection: close\r\n", b"")
    with clinic.connect("mesh", context) as open_now:
        before = clinic.exchange(open_now, kept)
        clinic.revoke("certificate", leaf)
        on_it = clinic.exchange(open_now, kept)
    anew, _, _ = ask(clinic, context, token)
    by_python, _, python_reused = ask(clinic, context, token, sessions[0])
    by_openssl, openssl_reused = openssl_request(clinic, token, "victim", "-sess_in", sessions[1])
    clinic.refused("before the revocation, on a connection kept open", before, "CSD401")
    clinic.refused("mesh: revoked, connection open", on_it, "CSD303")
    record = clinic.refused("mesh: revoked", anew, "CSD303")
    check(record["principal"]["cert_sha256"] == leaf, f"another leaf: {record['principal']}")
    for client, answer, reused in (("Python", by_python, python_reused),
                                   ("openssl", by_openssl, openssl_reused)):
        record = clinic.refused(f"mesh: revoked, resumed by {client}", answer, "CSD303")
        check(reused, f"{client} did not resume")
        tls = record["hop"]["evidence"]["tls"]["established"]
        check(tls["resumed"] is True, f"recorded as {tls}")
    answer = clinic.ask_token("victim", "hms-api")
    clinic.refused("control: revoked", answer, "CSD303", "oauth", 401)


def play(clinic):
    started = time.monotonic()
    handshakes(clinic)
    check(clinic.upstream_bytes() == 0, "something went upstream")
    revoked(clinic)
    print(f"{time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main(play)
