#!/usr/bin/env python3
"""Mixed traffic, allowed and refused, whose record is judged afterwards. Usage: traffic.py SETTINGS

The last line lists what must be found nowhere: tokens, cookies, prompts.
"""

import json
import pathlib
import secrets
import sys
import threading

from clinic import Clinic, Wrong, check

ROUNDS = 4


class Traffic:
    def __init__(self, clinic):
        self.clinic, self.never, self.answers = clinic, [], 0

    def secret(self, value):
        self.never.append(value)
        return value

    def saw(self, answer, expected):
        """A status, or the code of a refusal."""
        seen = answer.json().get("code") if isinstance(expected, str) else answer.status
        check(seen == expected, f"expected {expected}: {answer}")
        self.answers += 1

    def token(self, *arguments):
        return self.secret(self.clinic.token(*arguments))

    def browser(self, member, summary, report):
        cookie = self.secret(self.clinic.sign_in(f"user:dev/{member}"))
        shown = self.clinic.as_browser(cookie)
        prompt = self.secret(f"canary-prompt-{secrets.token_hex(12)}")
        body = json.dumps({"prompt": prompt}).encode()
        self.saw(self.clinic.request("web", "POST", "/ai/summary", shown, body), summary)
        self.saw(self.clinic.request("web", "GET", "/reports/7", shown), 200)
        text = self.secret(f"canary-report-{secrets.token_hex(12)}")
        body = json.dumps({"text": text}).encode()
        self.saw(self.clinic.request("web", "POST", "/reports", shown, body), report)
        return shown

    def mesh(self):
        prompt = self.secret(f"canary-prompt-{secrets.token_hex(12)}")
        body = json.dumps({"prompt": prompt}).encode()
        path = "/~/hms-api/ai/summary"
        for identity, status in (("research-bot", 200), ("stats-worker", "CSD216")):
            token = self.token("research-bot", "hms-api", "ai:invoke-summary")
            shown = [("Authorization", f"Bearer {token}")]
            self.saw(self.clinic.request("mesh", "POST", path, shown, body, identity), status)
        typed = [("Authorization", self.secret(f"Bearer sk-canary-{secrets.token_hex(12)}"))]
        self.never[-1] = self.never[-1].removeprefix("Bearer ")
        self.saw(self.clinic.request("mesh", "POST", path, typed, body, "research-bot"), "CSD220")
        query = self.secret(f"canary-query-{secrets.token_hex(12)}")
        answer = self.clinic.request("mesh", "POST", f"{path}?note={query}", [], body, "research-bot")
        self.saw(answer, "CSD211")

    def vault(self):
        token = self.token("hms-api", "vault", "ai:key:read")
        path = "/v1/secret/data/openai_primary"
        shown = [("X-Vault-Token", token)]
        self.saw(self.clinic.request("control", "GET", path, shown, identity="hms-api"), 200)
        self.clinic.request("control", "GET", path, shown, identity="stats-worker")
        self.clinic.request("control", "GET", "/v1/nowhere", shown, identity="hms-api")

    def round(self):
        shown = self.browser("grace", 200, 201)
        self.browser("alice", 200, "CSD502")
        self.mesh()
        self.vault()
        self.saw(self.clinic.request("web", "POST", "/ai/summary", shown[:1], b"{}"), "CSD218")

    def changes(self):
        """The same request before and after a revocation, its end, and another policy."""
        clinic = self.clinic
        path, body = "/~/hms-api/ai/summary", b'{"prompt":"the same"}'
        bot = clinic.spiffe("research-bot")
        config = pathlib.Path(clinic.settings["config"])
        text = config.read_text()
        without = text.replace("  research-bot -> hms-api: [POST /ai/summary]\n", "")
        check(text != without, "the configuration has no such edge")

        def put_in_force(policy):
            config.write_text(policy)
            clinic.run("reload")

        def ask(status, change=lambda: None):
            """With a token drawn before the change."""
            shown = [("Authorization", f"Bearer {self.token('research-bot', 'hms-api')}")]
            change()
            self.saw(clinic.request("mesh", "POST", path, shown, body, "research-bot"), status)

        ask(200)
        ask("CSD303", lambda: clinic.revoke("subject", bot))
        clinic.lift("subject", bot)
        ask(200)
        ask("CSD401", lambda: put_in_force(without))
        put_in_force(text)
        ask(200)


def main():
    clinic = Clinic(sys.argv[1])
    traffic = Traffic(clinic)
    failed = []

    def play():
        try:
            for _ in range(ROUNDS):
                traffic.round()
        except Exception as error:  # a thread's end is told to nobody else
            failed.append(error)

    threads = [threading.Thread(target=play) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    traffic.changes()
    sources = [clinic.source() for _ in range(3)]
    for source in sources:
        try:
            with clinic.connect("mesh", clinic.context(), source) as connection:
                connection.recv(1)
        except OSError:
            continue
        raise Wrong("a connection without certificate was let in")
    # Records are listed in order: with the last one, all are.
    for source in sources:
        clinic.record_from(source, "CSD201")
    print(json.dumps({"never": traffic.never, "answers": traffic.answers}))


if __name__ == "__main__":
    main()
