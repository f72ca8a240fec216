"""The wiki behind the door: on a socket that nobody else can open, and told by the door who asks.

Each request carries the gateway's signed assertion: this method and path of this service was decided,
for this person, just now. It is checked here, and only then is X-Remote-User written. The standard
library has no Ed25519, so `openssl` verifies the signature; an application of your own takes a library.
"""

import base64, http.client, json, os, socketserver, ssl, subprocess, sys, tempfile, threading, time

from wiki import Wiki

IDENTITY = os.environ["COUNTERSIGN_IDENTITY"]  # the folder that `identity issue wiki` wrote
PLACES = json.load(open(f"{IDENTITY}/countersign.json"))
AUDIENCE = f"https://{PLACES['trust_domain']}/svc/wiki"
ED25519 = bytes.fromhex("302a300506032b6570032100")  # what stands before the 32 bytes of a key (RFC 8410)


class Wrong(Exception):
    """Why an assertion does not count."""


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Assertions:
    def __init__(self):
        self.keys, self.used, self.lock = {}, {}, threading.Lock()

    def check(self, value, method, path):
        """Who asks, if the door decided this very request."""
        try:
            head, claims, signature = value.split(".")
            header, said = json.loads(decoded(head)), json.loads(decoded(claims))
            signature = decoded(signature)
        except (ValueError, UnicodeDecodeError):
            raise Wrong("there is none") from None
        if header.get("alg") != "EdDSA" or header.get("typ") != "cs-assertion+jwt":
            raise Wrong("it is of another kind")
        key = self.key(header.get("kid"))
        if not verified(decoded(key["x"]), f"{head}.{claims}".encode(), signature) or said["iss"] != key["spiffe_id"]:
            raise Wrong("it is not signed by the gateway it names")
        now = time.time()
        if (said["aud"], said["method"], said["path"]) != (AUDIENCE, method, path):
            raise Wrong("it is for another request")
        if not said["iat"] - 2 <= now < said["exp"]:
            raise Wrong("it does not count now")
        with self.lock:
            self.used = {jti: end for jti, end in self.used.items() if end > now}
            if said["jti"] in self.used:
                raise Wrong("it was used before")
            self.used[said["jti"]] = said["exp"]
        return said["sub"]

    def key(self, kid):
        """A gateway makes its key when it starts, so one that is not known is asked for."""
        if kid not in self.keys:
            context = ssl.create_default_context(cafile=f"{IDENTITY}/bundle.pem")
            context.load_cert_chain(f"{IDENTITY}/svid.pem", f"{IDENTITY}/key.pem")
            port = int(PLACES["server"].rsplit(":", 1)[1])
            connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
            connection.request("GET", "/.well-known/countersign-assertion-keys")
            answer = json.load(connection.getresponse())
            connection.close()
            self.keys = {key["kid"]: key for key in answer["keys"]}
        if kid not in self.keys:
            raise Wrong("no gateway has its key")
        return self.keys[kid]


def verified(key, message, signature):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in ("key", ED25519 + key), ("message", message), ("signature", signature):
            with open(f"{folder}/{name}", "wb") as file:
                file.write(content)
        openssl = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-rawin", "-in", "message", "-sigfile", "signature"]
        return subprocess.run(openssl, cwd=folder, capture_output=True).returncode == 0


class Behind(Wiki):
    assertions = Assertions()

    def parse_request(self):
        if not super().parse_request():
            return False
        try:
            asking = self.headers.get("countersign-assertion", "")
            who = self.assertions.check(asking, self.command, self.path.partition("?")[0])
        except Exception as error:  # whatever it is, nobody gets in by it
            reason = str(error) if isinstance(error, Wrong) else "it can't be checked"
            self.log_error("%s", repr(error))
            self.close_connection = True
            self.reply(401, f"The wiki believes an assertion of its gateway alone: {reason}.")
            return False
        del self.headers["X-Remote-User"]
        self.headers["X-Remote-User"] = who
        return True

    def address_string(self):
        return "gateway"


if __name__ == "__main__":
    os.umask(0o177)
    server = socketserver.ThreadingUnixStreamServer(sys.argv[1], Behind)
    server.daemon_threads = True
    server.serve_forever()
