#!/usr/bin/env python3
"""Tokens that must open nothing, shown with a good client certificate at the mesh door, at the
vault and to the issuer. Usage: attacks.py SETTINGS

What needs a signature of the issuer is a real token, used where or when it may not be; all others
are written and signed here. A token lives for a minute at most, and a slow machine takes longer than
that for some dozen requests: each use draws its own, and what it claims is as of that moment.
"""

import hmac
import http.client
import itertools
import json
import pathlib
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from clinic import b64, check, claims_of, main, unb64

SUMMARY = ("POST", "/~/hms-api/ai/summary", b'{"prompt":"attack"}')
NO_ALG = b'{"alg":"none","typ":"at+jwt"}'
SECRET = "/v1/secret/data/openai_primary"


class Forger:
    """Writes tokens as the issuer would, with keys of its own."""

    def __init__(self, clinic, identity, service, scope):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.jwk = clinic.jwks()["keys"][0]
        self.header = {"alg": "ES256", "kid": self.jwk["kid"], "typ": "at+jwt"}
        subject = clinic.spiffe(identity)
        self.lasting = {
            "aud": clinic.audience(service), "ceil": scope, "client_id": subject,
            "cnf": {"x5t#S256": b64(bytes.fromhex(clinic.leaf_hash(identity)))},
            "iss": f"https://{clinic.domain}", "jti": "forged", "scope": scope, "sub": subject,
        }

    @property
    def claims(self):
        """What the issuer would say now."""
        now = int(time.time())
        return self.lasting | {"exp": now + 50, "iat": now}

    def sign_with(self, signer, header=(), claims=()):
        header = {k: v for k, v in (self.header | dict(header)).items() if v is not None}
        claims = {k: v for k, v in (self.claims | dict(claims)).items() if v is not None}
        signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{signed}.{b64(signer(signed.encode()))}"

    def es256(self, header=(), claims=()):
        def signer(data):
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return self.sign_with(signer, header, claims)

    def hs256(self, secret):
        return self.sign_with(lambda data: hmac.digest(secret, data, "sha256"), {"alg": "HS256"})

    def rs256(self):
        return self.sign_with(lambda data: self.rsa.sign(data, padding.PKCS1v15(), hashes.SHA256()),
                              {"alg": "RS256"})

    def public_key(self):
        """The issuer's published key, in the forms that have been taken for an HMAC secret."""
        x, y = (int.from_bytes(unb64(self.jwk[name]), "big") for name in "xy")
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        point = key.public_bytes(serialization.Encoding.X962,
                                 serialization.PublicFormat.UncompressedPoint)
        return {"pem": key.public_bytes(serialization.Encoding.PEM, spki),
                "der": key.public_bytes(serialization.Encoding.DER, spki), "point": point}

    def own_jwk(self):
        numbers = self.key.public_key().public_numbers()
        return {"crv": "P-256", "kty": "EC", "x": b64(numbers.x.to_bytes(32, "big")),
                "y": b64(numbers.y.to_bytes(32, "big"))}


def forged(forger):
    """Name, token, code. Whatever is wrong with the claims, the signature is looked at first."""
    yield "malformed", "eyJhbGciOiJFUzI1NiJ9.e30.", "CSD212"
    for alg in ("none", "None", "nOnE"):
        yield f"alg {alg}", forger.sign_with(lambda _: b"", {"alg": alg}), "CSD212"
    yield "alg none, signed", forger.sign_with(lambda _: b"x" * 64, {"alg": "none"}), "CSD212"
    for form, secret in forger.public_key().items():
        yield f"HS256 with the public key as {form}", forger.hs256(secret), "CSD212"
    yield "HS256 with no secret", forger.hs256(b""), "CSD212"
    yield "RS256", forger.rs256(), "CSD212"
    yield "ES384", forger.es256({"alg": "ES384"}), "CSD212"
    yield "no alg", forger.es256({"alg": None}), "CSD212"
    yield "wrong typ", forger.es256({"typ": "JWT"}), "CSD214"
    yield "typ of an assertion", forger.es256({"typ": "countersign-assertion+jwt"}), "CSD214"
    yield "no typ", forger.es256({"typ": None}), "CSD212"
    yield "unknown kid", forger.es256({"kid": "attacker"}), "CSD213"
    yield "no kid", forger.es256({"kid": None}), "CSD212"
    yield "kid is a path", forger.es256({"kid": "../../../../dev/null"}), "CSD213"
    yield "jku", forger.es256({"jku": "https://localhost:1/jwks"}), "CSD212"
    yield "jwk", forger.es256({"jwk": forger.own_jwk()}), "CSD212"
    yield "x5u", forger.es256({"x5u": "https://localhost:1/chain"}), "CSD212"
    yield "x5c", forger.es256({"x5c": ["AA=="]}), "CSD212"
    yield "crit", forger.es256({"crit": ["exp"]}), "CSD212"
    yield "b64", forger.es256({"b64": False, "crit": ["b64"]}), "CSD212"
    yield "signed by another key", forger.es256(), "CSD213"
    yield "signature of zeros", forger.sign_with(lambda _: bytes(64)), "CSD213"
    yield "no signature", forger.sign_with(lambda _: b""), "CSD213"
    yield "wrong aud", forger.es256({}, {"aud": "https://elsewhere.invalid/svc/x"}), "CSD213"
    yield "wrong iss", forger.es256({}, {"iss": "https://elsewhere.invalid"}), "CSD213"
    yield "expired, forged", forger.es256({}, {"exp": int(time.time()) - 1}), "CSD213"
    yield "not yet valid", forger.es256({}, {"nbf": int(time.time()) + 30}), "CSD213"
    yield "exp as string", forger.es256({}, {"exp": str(int(time.time()) + 50)}), "CSD213"
    yield "no cnf", forger.es256({}, {"cnf": None}), "CSD213"


def with_more_scope(token):
    header, claims, signature = token.split(".")
    more = json.loads(unb64(claims)) | {"scope": "report:write"}
    with_more = b64(json.dumps(more, sort_keys=True, separators=(",", ":")).encode())
    return f"{header}.{with_more}.{signature}"


def with_a_bit_flipped(token):
    header, claims, signature = token.split(".")
    flipped = bytearray(unb64(signature))
    flipped[40] ^= 1
    return f"{header}.{claims}.{b64(bytes(flipped))}"


def changed(draw):
    """Name, token, code: a real token, changed. Each is drawn when it is asked for."""
    yield "real, with more scope", with_more_scope(draw()), "CSD213"
    yield "real, another signature", with_a_bit_flipped(draw()), "CSD213"
    yield "real, four parts", f"{draw()}.x", "CSD212"
    yield "real, padded", f"{draw()}==", "CSD212"
    yield "real, alg none", f"{b64(NO_ALG)}.{draw().split('.')[1]}.", "CSD212"


def headers_only(draw):
    """Name, values of `Authorization`, code: what is not a matter of the token. Each token is drawn
    when it is asked for."""
    yield "none", [], "CSD211"
    yield "garbage", ["Bearer garbage"], "CSD220"
    yield "bytes", [b"Bearer \xff\xfe"], "CSD212"
    yield "empty", ["Bearer "], "CSD220"
    yield "static API key", ["Bearer sk-proj-abcdefghijklmnopqrstuvwxyz012345"], "CSD220"
    yield "static API key, bare", ["sk-proj-abcdefghijklmnopqrstuvwxyz012345"], "CSD220"
    yield "Basic", ["Basic cmVzZWFyY2gtYm90OnNlY3JldA=="], "CSD220"
    yield "DPoP", [f"DPoP {draw()}"], "CSD212"
    yield "two Authorization headers", [f"Bearer {draw()}", "Bearer garbage"], "CSD212"
    yield "the same token twice", [f"Bearer {draw()}"] * 2, "CSD212"
    token = draw()
    yield "two tokens in one header", [f"Bearer {token}, Bearer {token}"], "CSD212"


class Doors:
    """The same request at either door, with a good certificate each."""

    def __init__(self, clinic):
        self.clinic = clinic
        self.forgers = {"mesh": Forger(clinic, "research-bot", "hms-api", "ai:invoke-summary"),
                        "vault": Forger(clinic, "hms-api", "vault", "ai:key:read")}

    def token(self, door):
        if door == "mesh":
            return self.clinic.token("research-bot", "hms-api", "ai:invoke-summary")
        return self.clinic.token("hms-api", "vault", "ai:key:read")

    def ask(self, door, values, identity=None):
        shown = [("Authorization", value) for value in values]
        if door == "mesh":
            method, path, body = SUMMARY
            return self.clinic.request("mesh", method, path, shown, body,
                                       identity or "research-bot")
        return self.clinic.request("control", "GET", SECRET, shown, identity=identity or "hms-api")

    def refused(self, door, name, values, code, identity=None):
        form = "vault" if door == "vault" else "problem"
        answer = self.ask(door, values, identity)
        return self.clinic.refused(f"{door}: {name}", answer, code, form)


def shown_at(doors, door):
    def draw():
        return doors.token(door)

    for name, values, code in headers_only(draw):
        record = doors.refused(door, name, values, code)
        check(record["principal"]["id"] == doors.clinic.spiffe(
            "research-bot" if door == "mesh" else "hms-api"), f"{name}: {record['principal']}")
    for name, forgery, code in itertools.chain(forged(doors.forgers[door]), changed(draw)):
        doors.refused(door, name, [f"Bearer {forgery}"], code)


def large(doors):
    """A token of 1 MB is more than a request may have in front of its body: it is turned away
    before anything reads it, and one that just fits is refused like any other."""
    clinic = doors.clinic
    for door in ("mesh", "vault"):
        fits = b64(b'{"alg":"ES256"}') + "." + "A" * 12000
        doors.refused(door, "12 KB", [f"Bearer {fits}"], "CSD212")
        huge = "Bearer eyJ" + "A" * 1_000_000
        try:
            answer = doors.ask(door, [huge])
        except OSError:
            answer = None  # the connection was closed in the middle of it
        check(answer is None or answer.status in (400, 431), f"1 MB at {door}: {answer}")
        check(clinic.upstream_bytes() == 0, f"1 MB at {door} went on")
        clinic.passes(f"{door}: 1 MB")


def real_ones(doors):
    """Real tokens where they may not be used."""
    clinic = doors.clinic

    def refused(door, name, of, code, identity):
        values = [f"Bearer {doors.token(of)}"]
        doors.refused(door, name, values, code, identity)

    refused("mesh", "wrong aud, real", "vault", "CSD214", "hms-api")
    refused("vault", "wrong aud, real", "mesh", "CSD214", "research-bot")
    refused("mesh", "bound to another certificate", "mesh", "CSD216", "stats-worker")
    refused("vault", "bound to another certificate", "vault", "CSD216", "research-bot")
    clinic.issue("research-bot", "renewed")
    refused("mesh", "bound to an earlier certificate", "mesh", "CSD216", "renewed")
    path = f"{SUMMARY[1]}?access_token={doors.token('mesh')}"
    answer = clinic.request("mesh", "POST", path, [], SUMMARY[2], "research-bot")
    clinic.refused("mesh: token in the query", answer, "CSD211")
    own = doors.token("vault")
    both = [("Authorization", f"Bearer {own}"), ("X-Vault-Token", own)]
    answer = clinic.request("control", "GET", SECRET, both, identity="hms-api")
    clinic.refused("vault: two kinds of header", answer, "CSD212", "vault")
    answer = clinic.request("control", "GET", SECRET, [("X-Vault-Token", "hvs.static")],
                            identity="hms-api")
    clinic.refused("vault: a static token", answer, "CSD220", "vault")


def revoked(doors):
    clinic = doors.clinic
    for door, name in (("mesh", "research-bot"), ("vault", "hms-api")):
        token = doors.token(door)
        clinic.revoke("subject", clinic.spiffe(name))
        # It is the peer as well, and of a revoked workload the certificate is looked at first.
        doors.refused(door, "revoked peer", [f"Bearer {token}"], "CSD303")
        answer = clinic.ask_token(name, "hms-api" if door == "mesh" else "vault")
        clinic.refused(f"issuer: revoked peer {name}", answer, "CSD303", "oauth", 401)
        clinic.lift("subject", clinic.spiffe(name))
        token = doors.token(door)
        clinic.revoke("token", claims_of(token)["jti"])
        doors.refused(door, "revoked token", [f"Bearer {token}"], "CSD301")
    # Others speak for it: the API, with tokens drawn from the bot's.
    bot = clinic.spiffe("research-bot")
    drawn = clinic.token("hms-api", "model", "llm:chat", doors.token("mesh"))
    shown = [("Authorization", f"Bearer {drawn}"), ("Content-Type", "application/json")]
    clinic.revoke("subject", bot)
    answer = clinic.request("mesh", "POST", "/~/model/v1/chat/completions", shown,
                            b'{"model":"gpt-4o","messages":[]}', "hms-api")
    clinic.refused("mesh: revoked subject", answer, "CSD302")
    clinic.lift("subject", bot)
    parent = doors.token("mesh")
    clinic.revoke("subject", bot)
    answer = clinic.ask_token("hms-api", "model", "llm:chat", parent)
    clinic.refused("issuer: revoked subject", answer, "CSD302", "oauth", 400)
    clinic.lift("subject", bot)


def answered(ask):
    """The answer to what is refused while it is still being sent: where the door's end of the
    connection overtakes its answer, it is asked again."""
    for _ in range(20):
        try:
            return ask()
        except (OSError, http.client.HTTPException) as error:
            lost = error
    raise lost


def exchanged(doors):
    """What the issuer makes no token of."""
    clinic = doors.clinic

    def draw():
        return doors.token("mesh")

    def refused(name, identity, code, status, service="model", scope="", subject=None):
        answer = clinic.ask_token(identity, service, scope, subject or draw())
        clinic.refused(f"issuer: {name}", answer, code, "oauth", status)

    forger = Forger(clinic, "research-bot", "hms-api", "ai:invoke-summary")
    for name, forgery, code in itertools.chain(forged(forger), changed(draw)):
        refused(name, "hms-api", code, 400, subject=forgery)
    refused("static API key", "hms-api", "CSD220", 400, subject="sk-proj-abcdefghijklmnop")
    refused("exchange by a workload the aud does not name", "stats-worker", "CSD219", 403)
    refused("exchange by whom it was given to first", "research-bot", "CSD219", 403)
    refused("exchange without an edge", "hms-api", "CSD401", 403, service="hms-api")
    refused("exchange for what the subject may not", "hms-api", "CSD502", 403, service="vault",
            scope="ai:key:read")
    answer = answered(lambda: clinic.ask_token("hms-api", "model", "", "eyJ" + "A" * 1_000_000))
    clinic.refused("issuer: 1 MB", answer, "CSD401", "oauth", 413)
    # What the subject may by now, it may with a token drawn from now on; not with an older one.
    config = pathlib.Path(clinic.settings["config"])
    text = config.read_text()
    line = 'members: [research-bot], may: ["ai:invoke-summary", "llm:chat"]'
    check(line in text, "the configuration has no such role")
    more = line.replace('"llm:chat"]', '"llm:chat", "ai:key:read"]')
    config.write_text(text.replace(line, more))
    older = draw()
    clinic.run("reload")
    refused("exchange above ceil", "hms-api", "CSD508", 403, service="vault", scope="ai:key:read",
            subject=older)
    config.write_text(text)
    clinic.run("reload")


def play(clinic):
    for name in ("research-bot", "stats-worker"):
        clinic.issue(name, name)
    doors = Doors(clinic)
    late = {door: doors.token(door) for door in ("mesh", "vault")}
    for door in ("mesh", "vault"):
        shown_at(doors, door)
    large(doors)
    real_ones(doors)
    revoked(doors)
    exchanged(doors)
    # Until now nothing went upstream. That is worth something only if it could have.
    for door, token in late.items():
        left = claims_of(token)["exp"] - time.time()
        time.sleep(max(0, left) + 0.01)
        doors.refused(door, "expired", [f"Bearer {token}"], "CSD215")
        answer = doors.ask(door, [f"Bearer {doors.token(door)}"])
        check(answer.status == 200, f"the good token at {door}: {answer}")
        clinic.settings["before"] = clinic.upstream_settled()
    check(clinic.settings["before"] > 0, "the good call was not seen on its way")
    # The good calls are the only ones that were let through to anything.
    for service, resource in (("hms-api", "hms-api/ai/summary"), ("vault", "vault/openai_primary"),
                              ("model", "model/v1/chat/completions")):
        opened = [it["resource"]["id"] for it in clinic.all_records()
                  if it["kind"] == "decision" and it["status"] == "success"
                  and it["resource"]["service"] == service and it["action"] in ("POST", "read")]
        expected = [resource] * (2 if service == "vault" else 1)  # the API reads it, too
        check(opened == expected, f"{service}: {opened}")


if __name__ == "__main__":
    main(play)
