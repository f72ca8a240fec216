"""What the three services share: taking calls from the gateway, and calling on in the same name.

Nothing but the standard library. The identity is the folder that `countersign identity issue` wrote.
"""

import base64, http.client, http.server, json, os, ssl, sys, urllib.parse

IDENTITY = os.environ["COUNTERSIGN_IDENTITY"]
PLACES = json.load(open(f"{IDENTITY}/countersign.json"))
DOMAIN = PLACES["trust_domain"]
TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class Refused(Exception):
    """What was refused further on: pillar, code and receipt."""


def tls(purpose):
    """Our certificate, and TLS 1.3 with whoever shows one that this trust domain issued."""
    context = ssl.create_default_context(purpose, cafile=f"{IDENTITY}/bundle.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(f"{IDENTITY}/svid.pem", f"{IDENTITY}/key.pem")
    return context


def ask(address, method, path, body, headers):
    """One request over mutual TLS; the answer as JSON, or `Refused`."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPSConnection("localhost" if host == "127.0.0.1" else host, int(port), context=tls(ssl.Purpose.SERVER_AUTH), timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        told = json.loads(answer.read() or b"null")
    finally:
        connection.close()
    if answer.status >= 400:
        raise Refused(told.get("refused", told) if isinstance(told, dict) else told)
    return told


def call(method, service, path, scope, caller, body=b""):
    """Calls `service` in the name of `caller`: its token is exchanged (RFC 8693) for one that is
    good for this service, this permission and our certificate, and for nothing else."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": caller, "subject_token_type": TOKEN,
        "client_id": os.path.basename(IDENTITY), "audience": service, "scope": scope,
    }
    token = ask(PLACES["server"], "POST", "/oauth2/token", urllib.parse.urlencode(form),
                {"Content-Type": "application/x-www-form-urlencoded"})["access_token"]
    return ask(PLACES["mesh"], method, f"/~/{service}{path}", body, {"Authorization": f"Bearer {token}"})


def serve(name, answer):
    """Takes calls that the gateway let through, and from nobody but the gateway.

    The peer has proved to be a gateway, so what it asserts about the request counts here; how an
    application checks the signature itself is in `examples/front`.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_call(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            names = [value for kind, value in self.connection.getpeercert()["subjectAltName"] if kind == "URI"]
            if not names[0].startswith(f"spiffe://{DOMAIN}/countersign/gateway/"):
                return self.reply(403, {"error": f"{names[0]} is no gateway"})
            claims = self.headers["countersign-assertion"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            caller = self.headers["Authorization"].removeprefix("Bearer ")
            try:
                self.reply(200, answer(self.command, self.path, claims, caller, body))
            except Refused as refused:
                self.reply(502, {"refused": refused.args[0]})

        do_GET = do_POST = handle_call

        def reply(self, status, document):
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.socket = tls(ssl.Purpose.CLIENT_AUTH).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: print(f"{name} closed a connection:", sys.exc_info()[1], flush=True)
    print(f"{name} listens", flush=True)
    server.serve_forever()
