"""A wiki that has been there for years. It knows nothing of the door that now stands in front of it.

It has a login and a cookie of its own and, like many applications, believes the header X-Remote-User
of the proxy in front of it. Whoever reaches /admin may do everything.
"""

import base64, hashlib, html, http.server, json, sys, threading


class Wiki(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages = {"home": "Welcome."}
    changes = []
    changed = threading.Condition()

    def do_GET(self):
        kind, _, name = self.path.partition("?")[0].removeprefix("/").partition("/")
        if kind == "pages" and name in self.pages:
            cookies = sorted(pair.split("=")[0].strip() for pair in self.headers.get("Cookie", "").split(";"))
            text = f"{self.pages[name]} Read by {self.user()}; cookies: {' '.join(filter(None, cookies)) or 'none'}"
            self.reply(200, text, {"Set-Cookie": "wiki_theme=dark; Path=/"})
        elif kind == "":
            self.reply(200, "The wiki. Pages: " + " ".join(self.pages))
        elif kind == "request":
            shown = {name: value for name, value in self.headers.items() if name != "authorization"}
            self.reply(200, json.dumps(shown, indent=1))
        elif kind == "changes":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.follow(lambda text: f"data: {text}\n\n".encode())
        elif kind == "live" and "Sec-WebSocket-Key" in self.headers:
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            self.follow(lambda text: bytes([0x81, len(text.encode())]) + text.encode())
        elif kind == "admin":
            self.reply(200, "Delete everything? yes / yes")
        elif kind == "login":
            self.reply(200, "Name and password, please.")
        else:
            self.reply(404, "No such page.")

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        kind, _, name = self.path.removeprefix("/").partition("/")
        if kind != "pages" or not name:
            return self.reply(404, "No such page.")
        self.pages[name] = text
        with self.changed:
            self.changes.append(f"{name} was written by {self.user()}"[:100])
            self.changed.notify_all()
        self.reply(201, "Written.")

    def user(self):
        return self.headers.get("X-Remote-User") or "nobody"

    def follow(self, frame):
        """Tells of each change as it happens, until the reader is gone."""
        self.close_connection = True
        told, text = len(self.changes), "listening"
        try:
            while True:
                self.wfile.write(frame(text))
                with self.changed:
                    self.changed.wait_for(lambda: len(self.changes) > told)
                text, told = self.changes[told], told + 1
        except OSError:
            pass

    def reply(self, status, text, headers={}):
        body = html.escape(text, quote=False).encode() + b"\n"
        self.send_response(status)
        for name, value in {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Wiki).serve_forever()
