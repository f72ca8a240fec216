"""A browser's WebSocket, as far as this story needs one: prints each message, and how it ended.

usage: live.py DOOR PATH JAR ROOTS
"""

import base64, os, socket, ssl, sys

door, path, jar, roots = sys.argv[1:]
host, port = door.removeprefix("https://").split(":")
cookies = [line.split("\t")[5:7] for line in open(jar).read().splitlines() if "\t" in line]

context = ssl.create_default_context(cafile=roots)
stream = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
stream.sendall("\r\n".join([
    f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade", "Upgrade: websocket",
    "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    f"Origin: {door}", "Sec-Fetch-Site: same-origin",
    "Cookie: " + "; ".join("=".join(pair) for pair in cookies), "", "",
]).encode())

answers = stream.makefile("rb")
print(answers.readline().decode().strip(), flush=True)
while (line := answers.readline()) not in (b"\r\n", b""):
    pass
while head := answers.read(2):
    payload = answers.read(head[1])  # short messages: their length is in the second byte
    if head[0] == 0x88:
        print("closed", int.from_bytes(payload[:2], "big"), flush=True)
        break
    print(payload.decode(), flush=True)
