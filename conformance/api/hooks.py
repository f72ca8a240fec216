"""What schemathesis does around each call: shows a token, keeps what came back, looks for secrets.

Tokens live for a minute, so `run.py` writes a new one into a file before the old one ends.
"""

import json
import os
import pathlib

import schemathesis

CANARIES = [it.encode() for it in os.environ["JUDGES_CANARIES"].split()]
CALLS = pathlib.Path(os.environ["JUDGES_CALLS"])
TOKEN = os.environ.get("JUDGES_TOKEN")


@schemathesis.hook
def before_call(context, case, kwargs):
    if TOKEN:
        case.headers = dict(case.headers or {}) | {"X-Vault-Token": pathlib.Path(TOKEN).read_text()}


@schemathesis.hook
def after_call(context, case, response):
    receipt = response.headers.get("countersign-receipt", [None])[0]
    call = {"method": case.method, "path": case.formatted_path, "status": response.status_code,
            "receipt": receipt, "empty": not response.content}
    with CALLS.open("a") as calls:
        calls.write(json.dumps(call) + "\n")


@schemathesis.check
def keeps_secrets(context, response, case):
    text = response.content + json.dumps(dict(response.headers)).encode()
    assert not any(canary in text for canary in CANARIES), "a secret is in the answer"
