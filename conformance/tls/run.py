#!/usr/bin/env python3
"""testssl.sh and sslyze look at a door of every kind, and a raw client asks what neither can.

    COUNTERSIGN_BIN=target/debug/countersign python3 conformance/tls/run.py

The last line is what was judged, as JSON. Anything else than is expected ends it with status 1.
"""

import concurrent.futures
import datetime
import json
import os
import pathlib
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from program import WAIT, Program, Wrong, check, lacking, listed  # noqa: E402

HOST = "localhost"
ADDRESS = "127.0.0.1"
# How often a judge may look before what it could not see is a failure.
ATTEMPTS = 5
# How many of testssl's objections may be explained away.
CEILING = 4
SUITES_13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
SUITES_12 = {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
             "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}
CURVES = {"X25519", "secp256r1", "secp384r1"}
# Named groups (IANA) that a door takes, and some that it refuses.
GROUPS = {"X25519MLKEM768": 0x11EC, "X25519": 0x1D, "secp256r1": 0x17, "secp384r1": 0x18}
OTHER_GROUPS = {"secp521r1": 0x19, "X448": 0x1E, "secp256k1": 0x16, "brainpoolP256r1": 0x1A,
                "ffdhe2048": 0x100, "ffdhe3072": 0x101, "secp192r1": 0x13, "GREASE": 0x0A0A}
# What testssl has to have looked at everywhere; what it skips would pass unseen.
LOOKED_AT = {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL",
             "cipherlist_aNULL", "cipherlist_EXPORT", "cipherlist_LOW", "cipherlist_3DES_IDEA",
             "cipherlist_AVERAGE", "PFS", "PFS_ECDHE_curves", "cert_signatureAlgorithm",
             "cert_keySize", "cert_trust", "cert_chain_of_trust", "heartbleed", "CCS",
             "ticketbleed", "ROBOT", "secure_renego", "CRIME_TLS", "POODLE_SSL", "fallback_SCSV",
             "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13"}
# Of TLS 1.3 alone it says nothing about 64-bit ciphers, as there are none.
OF_TLS12 = {"SWEET32"}
OF_PEOPLE = {"HSTS_time", "HSTS_subdomains", "X-Frame-Options", "X-Content-Type-Options",
             "BREACH", "secure_client_renego"}


class Door:
    """A listener, and how it has to be."""

    def __init__(self, name, port, roots, *, client=None, people=False, tls12=False, resumes=False,
                 root=False):
        self.name, self.port, self.roots, self.client = name, port, roots, client
        self.people, self.tls12, self.resumes, self.root = people, tls12, resumes, root

    def context(self, certificate=True):
        context = ssl.create_default_context(cafile=self.roots)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if certificate and self.client:
            context.load_cert_chain(self.client / "svid.pem", self.client / "key.pem")
        return context


# --- testssl.sh

ALL = ("--protocols", "--standard", "--fs", "--server-preference", "--server-defaults", "--headers",
       "--vulnerable")


def testssl(door, folder, checks=ALL):
    """What it finds at a door: name, severity, finding.

    A client that shows no certificate may hear of it before or after it thinks that it is
    connected (RFC 8446 section 4.4.2), so testssl now and then thinks that it can't connect, and
    it waits less long for an answer than a busy machine may need. Then it looks again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        found = testssl_once(door, folder, checks)
        unseen = unjudged(door, found) if checks is ALL else None
        if not unseen:
            break
        print(f"testssl at {door.name} did not look at {sorted(unseen)}: {attempt}", flush=True)
    return found


def unjudged(door, found):
    """What it has to look at and did not, or could not."""
    wanted = LOOKED_AT | (OF_PEOPLE if door.people else set()) | (OF_TLS12 if door.tls12 else set())
    return wanted - {name for name, severity, _ in found if severity != "WARN"}


def testssl_once(door, folder, checks):
    report = folder / f"{door.name}.json"
    report.unlink(missing_ok=True)
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none",
               "--ip", ADDRESS, "--fast", "--connect-timeout", "30", "--openssl-timeout", "30",
               "--add-ca", str(door.roots), *checks, "--jsonfile", str(report), f"https://{HOST}:{door.port}"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=5 * WAIT, check=False, cwd=folder)
    check(report.exists(), f"testssl at {door.name}: {said.stdout[-4000:]}{said.stderr[-2000:]}")
    return [(it["id"], it["severity"], it["finding"]) for it in json.loads(report.read_text())]


def judge_testssl(door, found, allowed):
    """Everything it looked at is good, or excepted; the exceptions that were needed."""
    # A warning is about testssl itself: its openssl can't do something, or was not quick enough.
    # What it has to look at is therefore not looked at.
    for name, severity, finding in found:
        if severity == "WARN":
            print(f"testssl at {door.name} could not judge {name}: {finding}", flush=True)
    found = [it for it in found if it[1] != "WARN"]
    used = set()
    for name, severity, finding in found:
        if severity in ("OK", "INFO", "LOW", "DEBUG"):
            continue
        entry = next((it for it in (f"* {name}", f"{door.name} {name}") if it in allowed), None)
        check(entry, f"testssl at {door.name}: {severity} {name}: {finding}")
        used.add(entry)
    findings = {name: finding for name, _, finding in found}
    missing = unjudged(door, found)
    check(not missing, f"testssl at {door.name} did not look at {sorted(missing)}")
    for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1") + (() if door.tls12 else ("TLS1_2",)):
        check(findings[version] == "not offered", f"{door.name}: {version} {findings[version]}")
    check(findings["TLS1_3"] == "offered with final", f"{door.name}: {findings['TLS1_3']}")
    check(not door.tls12 or findings["TLS1_2"] == "offered", f"{door.name}: {findings['TLS1_2']}")
    curves = set(findings["PFS_ECDHE_curves"].split())
    check(curves == {"prime256v1", "secp384r1", "X25519"}, f"{door.name}: curves {curves}")
    return used


def by_testssl(door, folder, allowed):
    """Looks and judges; the exceptions that were needed."""
    return patiently(door, lambda: judge_testssl(door, testssl(door, folder), allowed))


# --- sslyze

def sslyze(door):
    """What it finds at a door. What it could not look at is looked at again: the join port takes
    few connections from one source, and those of the scan before may not have ended."""
    for _ in range(ATTEMPTS):
        scanned = sslyze_once(door)
        result = scanned.scan_result
        if result and all(it.result is not None for name, it in vars(result).items()
                          if name not in unwanted(door)):
            break
        time.sleep(5)
    return scanned


def unwanted(door):
    """Headers are for browsers. With a certificate of ours it can't speak SSL 2; testssl can."""
    without = () if door.people else ("http_headers",)
    return without + (("ssl_2_0_cipher_suites",) if door.client else ())


def sslyze_once(door):
    from sslyze import (CertificateInfoExtraArgument, ClientAuthenticationCredentials,
                        ScanCommandsExtraArguments, Scanner, ServerNetworkConfiguration,
                        ServerNetworkLocation, ServerScanRequest)
    shown = door.client and ClientAuthenticationCredentials(
        certificate_chain_path=door.client / "svid.pem", key_path=door.client / "key.pem")
    scanner = Scanner(per_server_concurrent_connections_limit=1, concurrent_server_scans_limit=1)
    scanner.queue_scans([ServerScanRequest(
        ServerNetworkLocation(hostname=HOST, ip_address=ADDRESS, port=door.port),
        network_configuration=ServerNetworkConfiguration(
            tls_server_name_indication=HOST, tls_client_auth_credentials=shown, network_timeout=30,
            network_max_retries=3),
        scan_commands_extra_arguments=ScanCommandsExtraArguments(
            certificate_info=CertificateInfoExtraArgument(custom_ca_file=door.roots)))])
    return next(scanner.get_results())


def results(name, scanned, without=()):
    """What each scan found; a scan that could not be done is no result."""
    check(scanned.scan_result, f"sslyze at {name}: {scanned.connectivity_error_trace}")
    found = {}
    for field, attempt in vars(scanned.scan_result).items():
        if field in without:
            continue
        trace = "".join(attempt.error_trace.format()) if attempt.error_trace else ""
        check(attempt.result is not None, f"sslyze at {name}: {field}: {attempt.error_reason} {trace}")
        found[field] = attempt.result
    return found


def judge_sslyze(door, scanned):
    without = unwanted(door)
    found = results(door.name, scanned, without)
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3"):
        field = f"{version}_cipher_suites"
        if field in without:
            continue
        accepted = found[field].accepted_cipher_suites
        accepted = {it.cipher_suite.name for it in accepted}
        expected = {"tls_1_2": SUITES_12 if door.tls12 else set(), "tls_1_3": SUITES_13}
        check(accepted == expected.get(version, set()), f"{door.name}: {version}: {accepted}")
    curves = {it.name for it in found["elliptic_curves"].supported_curves}
    check(curves == CURVES, f"{door.name}: curves {curves}")
    facts = {
        "compression": found["tls_compression"].supports_compression,
        "early data": found["tls_1_3_early_data"].supports_early_data,
        "ccs injection": found["openssl_ccs_injection"].is_vulnerable_to_ccs_injection,
        "heartbleed": found["heartbleed"].is_vulnerable_to_heartbleed,
        "renegotiation by the client":
            found["session_renegotiation"].is_vulnerable_to_client_renegotiation_dos,
        "no fallback signal": not found["tls_fallback_scsv"].supports_fallback_scsv,
        "no extended master secret":
            not found["tls_extended_master_secret"].supports_ems_extension,
        "RSA key transport":
            found["robot"].robot_result.value != "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
    }
    for name, wrong in facts.items():
        check(not wrong, f"sslyze at {door.name}: {name}")
    # TLS 1.2 has no key exchange of its own in a resumed session; 1.3 is looked at below.
    resumption = found["session_resumption"]
    for how in (resumption.session_id_resumption_result, resumption.tls_ticket_resumption_result):
        expected = "NOT_SUPPORTED" if door.tls12 else "SERVER_IS_TLS_1_3_ONLY"
        check(how.value == expected, f"{door.name}: resumption {how.value}")
    if door.people:
        hsts = found["http_headers"].strict_transport_security_header
        check(hsts and hsts.max_age >= 31536000 and hsts.include_subdomains, f"{door.name}: {hsts}")
    judge_certificate(door, found["certificate_info"])


def judge_certificate(door, info):
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    check(len(info.certificate_deployments) == 1, f"{door.name}: more than one certificate")
    deployment = info.certificate_deployments[0]
    leaf = deployment.received_certificate_chain[0]
    key = leaf.public_key()
    check(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1",
          f"{door.name}: {key}")
    for certificate in deployment.received_certificate_chain:
        check(certificate.signature_hash_algorithm.name in ("sha256", "sha384"),
              f"{door.name}: {certificate.signature_hash_algorithm.name}")
    # Who joins knows the root by its hash only, and is sent it for that.
    roots = [it for it in deployment.received_certificate_chain if it.subject == it.issuer]
    check(bool(roots) == door.root, f"{door.name}: {len(roots)} roots are sent along")
    check(deployment.received_chain_has_valid_order, f"{door.name}: order of the chain")
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    check(life <= datetime.timedelta(hours=1, minutes=5), f"{door.name}: lives {life}")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    check(len(uris) == 1 and uris[0].startswith("spiffe://judges.dev.invalid/"), f"{door.name}: {uris}")
    check(names.critical or leaf.subject.rdns, f"{door.name}: no name that counts (RFC 5280 4.2.1.6)")
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    check(usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
          and not usage.value.crl_sign, f"{door.name}: {usage}")
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    check(basic.critical and not basic.value.ca, f"{door.name}: {basic}")
    trusted = [it for it in deployment.path_validation_results if it.was_validation_successful]
    stores = [it.trust_store.name for it in trusted]
    check(stores == ["Supplied CA file"], f"{door.name}: believed by {stores}")


# --- what neither of them asks

def client_hello(groups):
    """A TLS 1.3 ClientHello that offers groups and no share, so that the server names its choice
    in a HelloRetryRequest (RFC 8446 section 4.1.4)."""
    def extension(kind, body):
        return struct.pack("!HH", kind, len(body)) + body

    def vector(size, body):
        return len(body).to_bytes(size, "big") + body

    name = HOST.encode()
    extensions = b"".join([
        extension(0, vector(2, b"\0" + vector(2, name))),
        extension(10, vector(2, b"".join(struct.pack("!H", it) for it in groups))),
        extension(13, vector(2, bytes.fromhex("04030503080408050401"))),
        extension(43, vector(1, b"\x03\x04")),
        extension(51, vector(2, b"")),
    ])
    body = (b"\x03\x03" + os.urandom(32) + vector(1, os.urandom(32))
            + vector(2, bytes.fromhex("130113021303")) + vector(1, b"\0") + vector(2, extensions))
    return vector_record(b"\x01" + vector(3, body))


def vector_record(message):
    return b"\x16\x03\x01" + struct.pack("!H", len(message)) + message


RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def chosen(door, groups):
    """The group that the server asks for; none if it ends the handshake by an alert."""
    with socket.create_connection((ADDRESS, door.port), timeout=WAIT) as connection:
        connection.sendall(client_hello(groups))
        stream = connection.makefile("rb")
        head = stream.read(5)
        check(len(head) == 5, f"{door.name}: closed without an answer")
        kind, _, length = struct.unpack("!BHH", head)
        body = stream.read(length)
    if kind == 21:
        return None
    check(kind == 22 and body[0] == 2 and body[6:38] == RETRY, f"{door.name}: no retry: {body[:40]}")
    at = 38 + 1 + body[38] + 3
    end = at + 2 + int.from_bytes(body[at:at + 2], "big")
    at += 2
    while at < end:
        extension, size = struct.unpack("!HH", body[at:at + 4])
        if extension == 51:
            return int.from_bytes(body[at + 4:at + 4 + size], "big")
        at += 4 + size
    raise Wrong(f"{door.name}: a retry without a group")


def judge_groups(door):
    for name, group in GROUPS.items():
        check(chosen(door, [group]) == group, f"{door.name}: {name} is not taken")
    for name, group in OTHER_GROUPS.items():
        check(chosen(door, [group]) is None, f"{door.name}: {name} is taken")
    # Which of ours comes first is the client's to say; what it likes better is passed over.
    first = chosen(door, [*OTHER_GROUPS.values(), *GROUPS.values()])
    check(first == GROUPS["X25519MLKEM768"], f"{door.name}: {first:#x} before the hybrid group")


def exchange(door, context, session=None):
    """A request, so that a ticket has come; the session, and whether it was resumed."""
    with socket.create_connection((ADDRESS, door.port), timeout=WAIT) as raw:
        with context.wrap_socket(raw, server_hostname=HOST, session=session) as stream:
            stream.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            check(stream.read(5) == b"HTTP/", f"{door.name}: no answer")
            return stream.session, stream.session_reused


def judge_sessions(door):
    context = door.context()
    session, again = exchange(door, context)
    check(not again, f"{door.name}: a first connection is no second")
    offered = session is not None and session.has_ticket
    check(offered == door.resumes, f"{door.name}: offers to resume: {offered}")
    if offered:
        _, again = exchange(door, context, session)
        check(again, f"{door.name}: what is offered is not done")


def judge_stranger(door):
    """Who shows no certificate where one is asked for gets an alert (RFC 8446 section 4.4.2.4)."""
    if door.client is None:
        return
    try:
        exchange(door, door.context(certificate=False))
    except ssl.SSLError as error:
        check("CERTIFICATE_REQUIRED" in str(error), f"{door.name}: {error}")
    else:
        raise Wrong(f"{door.name}: a stranger is answered")


# --- the judges themselves

def judge_the_judges(folder):
    """A weak server is found to be weak: what finds nothing proves nothing."""
    key, certificate = folder / "weak.key", folder / "weak.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key),
            "-out", str(certificate), "-days", "2", "-subj", f"/CN={HOST}"]
    subprocess.run(made, check=True, capture_output=True, timeout=WAIT)
    with socket.socket() as held:
        held.bind((ADDRESS, 0))
        port = held.getsockname()[1]
    command = ["openssl", "s_server", "-accept", f"{ADDRESS}:{port}", "-key", str(key), "-cert",
               str(certificate), "-tls1_2", "-cipher", "AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256",
               "-www"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            try:
                socket.create_connection((ADDRESS, port), timeout=WAIT).close()
                break
            except OSError:
                time.sleep(0.05)
        door = Door("weak", port, certificate)
        for judge in (lambda: judge_sslyze(door, sslyze(door)),
                      lambda: judge_testssl(door, testssl(door, folder, ("--server-preference",)), [])):
            try:
                judge()
            except Wrong as error:
                print(f"rightly: {str(error)[:160]}")
            else:
                raise Wrong("a weak server passes")
    finally:
        server.terminate()
        server.wait()


def partner(folder):
    """An authority of somebody else and a certificate of it, in `folder`; the authority's PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=1)

    def made(subject, issuer, key, signer, *extensions):
        builder = x509.CertificateBuilder(
            issuer_name=issuer, subject_name=subject, public_key=key.public_key(),
            serial_number=x509.random_serial_number(), not_valid_before=now,
            not_valid_after=now + datetime.timedelta(days=1))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    def usage(**more):
        names = ("digital_signature", "content_commitment", "key_encipherment",
                 "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
                 "encipher_only", "decipher_only")
        return x509.KeyUsage(**{name: more.get(name, False) for name in names})

    def named(name):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    above = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    authority = made(
        named("Globex CA"), named("Globex CA"), root, root,
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage(key_cert_sign=True, crl_sign=True), True), (above, False))
    leaf = made(
        named("api.globex.example"), authority.subject, key, root,
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName("api.globex.example")]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), False))
    folder.mkdir()
    pem = serialization.Encoding.PEM
    (folder / "svid.pem").write_bytes(leaf.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return authority.public_bytes(pem).decode()


def patiently(door, judge):
    """Judges a door. The join port turns away whoever has a few connections there already, which a
    judge takes for a refusal of what it offered; so there it may try again."""
    for attempt in range(1, (ATTEMPTS if door.root else 1) + 1):
        try:
            return judge()
        except (Wrong, OSError) as error:
            wrong = error
            print(f"attempt {attempt} at {door.name}: {error}", flush=True)
            time.sleep(5)
    raise wrong


def doors(whole, apart, folder):
    """A door of every kind, of `up` and of a server alone."""
    authority = partner(folder / "partner")
    for program in (whole, apart):
        program.own(program.folder / "partner.pem", authority)
    with socket.socket() as held:
        held.bind((ADDRESS, 0))
        join = held.getsockname()[1]
    said = whole.start("up", "--dev", "--control", f"{ADDRESS}:0")
    alone = apart.start("server", "--dev", "--control", f"{ADDRESS}:0", "--join", f"{ADDRESS}:{join}")
    port = {name: int(at.rsplit(":", 1)[1]) for name, at in said["listeners"].items()}
    identities = []
    for program, name in ((whole, "up"), (apart, "server")):
        program.run("identity", "issue", "caller", "--out", program.folder / "caller")
        identities.append(folder / name)
        shutil.copytree(program.folder / "caller", folder / name)
    here, there = identities
    return [
        Door("web", port["web"], here / "bundle.pem", people=True, resumes=True),
        Door("older", port["older"], here / "bundle.pem", people=True, tls12=True),
        Door("mesh", port["mesh"], here / "bundle.pem", client=here, resumes=True),
        Door("b2b", port["b2b"], here / "bundle.pem", client=folder / "partner", resumes=True),
        Door("control", int(alone["control"].rsplit(":", 1)[1]), there / "bundle.pem", client=there),
        Door("join", join, there / "bundle.pem", root=True, resumes=True),
    ]


def main():
    lacks = lacking(["testssl", "openssl"], ["sslyze", "cryptography"])
    if lacks:
        print(f"NOT RUN: {lacks}")
        return 77
    allowed = listed(HERE / "exceptions.txt")
    check(len(allowed) <= CEILING, f"{len(allowed)} exceptions, and {CEILING} are the most")
    configuration = (HERE / "doors.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder, Program(configuration) as whole, \
            Program(configuration) as apart, concurrent.futures.ThreadPoolExecutor(3) as pool:
        folder = pathlib.Path(folder)
        judged = doors(whole, apart, folder)
        weak = pool.submit(judge_the_judges, folder)
        looking = {}
        for door in judged:
            # One judge at a time: the join port takes a few connections from one source.
            patiently(door, lambda: judge_sslyze(door, sslyze(door)))
            for judge in (judge_groups, judge_sessions, judge_stranger):
                patiently(door, lambda: judge(door))
            print(f"sslyze and a raw client: {door.name} is as it has to be", flush=True)
            looking[door] = pool.submit(by_testssl, door, folder, allowed)
        used = set()
        for door, judged_by_it in looking.items():
            used |= judged_by_it.result()
            print(f"testssl: {door.name} is as it has to be", flush=True)
        weak.result()
        check(used == set(allowed), f"exceptions that are none: {sorted(set(allowed) - used)}")
        whole.alive()
        apart.alive()
        print(json.dumps({"doors": [door.name for door in judged], "exceptions": len(allowed)}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Wrong as error:
        print(f"FAILED: {error}")
        sys.exit(1)
