#!/usr/bin/env python3
"""Recomputes what `countersign demo -o json --keep DIR` claims, without any of its code.

Usage: verify_demo.py DIR

Reads DIR/demo.json, the log below DIR/data/log and DIR/proof.json; checks the checkpoint's
signature, rebuilds the Merkle tree from the entries, finds the record of every step and compares
pillar, code and status, checks the proof, and sees that the changed copy below DIR/tampered no
longer fits. Prints one line and exits 0, or says what is wrong and exits 1.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def fail(message):
    print(f"WRONG: {message}")
    sys.exit(1)


def check(condition, message):
    if not condition:
        fail(message)


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes):
    """RFC 6962 section 2.1, as written there."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(root_of(hashes[:split]), root_of(hashes[split:]))


def path_root(index, size, leaf, path):
    """RFC 9162 section 2.1.3.2."""
    if index >= size:
        return None
    fn, sn, result = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            result = node_hash(sibling, result)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            result = node_hash(result, sibling)
        fn, sn = fn >> 1, sn >> 1
    return result if sn == 0 else None


def open_note(text, vkey):
    """C2SP signed-note with one Ed25519 key."""
    name, key_id, encoded = vkey.split("+", 2)
    blob = base64.b64decode(encoded)
    check(blob[0] == 1, "the key is not Ed25519")
    expected = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4]
    check(expected.hex() == key_id, "the key id does not belong to the key")
    body, signatures = text.rsplit("\n\n", 1)
    body += "\n"
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        raw = base64.b64decode(signature)
        if dash == "\u2014" and signer == name and raw[:4] == expected:
            try:
                Ed25519PublicKey.from_public_bytes(blob[1:]).verify(raw[4:], body.encode())
            except InvalidSignature:
                fail("the checkpoint's signature is wrong")
            origin, size, root = body.splitlines()[:3]
            return origin, int(size), base64.b64decode(root)
    fail("the checkpoint is not signed with the key given")


def tile_name(index):
    name = f"{index % 1000:03d}"
    while index >= 1000:
        index //= 1000
        name = f"x{index % 1000:03d}/{name}"
    return name


def entries(log, size):
    found = []
    for bundle in range((size + 255) // 256):
        width = min(256, size - bundle * 256)
        path = log / "tile" / "entries" / tile_name(bundle)
        if width < 256:
            path = pathlib.Path(f"{path}.p") / str(width)
        data, at = path.read_bytes(), 0
        for _ in range(width):
            (length,) = struct.unpack_from(">H", data, at)
            found.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        check(at == len(data), f"bytes left over in {path.name}")
    return found


def receipt_id(leaf):
    bits = int.from_bytes(leaf[:8], "big") >> 4
    return "r-" + "".join(CROCKFORD[bits >> shift & 31] for shift in range(55, -1, -5))


def chained(leaves):
    """Every node's leaves follow one another by sequence and hash."""
    heads = {}
    for leaf in leaves:
        envelope = json.loads(leaf)
        check(set(envelope) == {"node", "prev", "record", "seq"}, "a leaf has other members")
        canonical = json.dumps(envelope, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        check(canonical.encode() == leaf, "a leaf is not canonical json")
        seq, prev = heads.get(envelope["node"], (-1, "0" * 64))
        check(envelope["seq"] == seq + 1, f"sequence {envelope['seq']} follows {seq}")
        check(envelope["prev"] == prev, f"record {envelope['seq']} does not follow the one before")
        heads[envelope["node"]] = (envelope["seq"], leaf_hash(leaf).hex())


def step_matches(step, record):
    if step["allowed"]:
        check(record["status"] == "success", f"step {step['step']} is recorded as {record['status']}")
        return
    check(record["status"] == "denied", f"step {step['step']} is recorded as {record['status']}")
    for field in ("pillar", "code"):
        check(record[field] == step[field], f"step {step['step']}: {field} {record[field]}, said {step[field]}")


def main():
    folder = pathlib.Path(sys.argv[1])
    demo = json.loads((folder / "demo.json").read_text())
    check(demo["schema"] == "countersign.demo/v1", "another schema")
    log = folder / "data" / "log"
    vkey = demo["log_key"]
    origin, size, root = open_note((log / "checkpoint").read_text(), vkey)
    check(origin == vkey.split("+")[0], "the log has another origin")
    leaves = entries(log, size)
    check(root_of([leaf_hash(leaf) for leaf in leaves]) == root, "the root is not that of the entries")
    chained(leaves)

    records = {receipt_id(leaf_hash(leaf)): json.loads(leaf)["record"] for leaf in leaves}
    steps = demo["steps"]
    check(len(steps) == 6, f"{len(steps)} steps")
    for step in steps:
        check(step["receipt"] in records, f"step {step['step']}: no record {step['receipt']}")
        step_matches(step, records[step["receipt"]])
    pillars = [step["pillar"] for step in steps]
    wanted = [None, "encryption", "identity", "continuous-verification", "micro-segmentation", "least-privilege"]
    check(pillars == wanted, f"pillars {pillars}")

    kinds = [record["kind"] for record in records.values()]
    allowed = [r for r in records.values() if r["kind"] == "decision" and r["status"] == "success"]
    completions = {r["completion"]["decision"] for r in records.values() if r["kind"] == "completion"}
    missing = [i for i, r in records.items() if r["kind"] == "decision" and r["status"] == "success" and i not in completions]
    check(not missing, f"no completion for {missing}")
    reads = [r for r in allowed if r["resource"]["id"] == "vault/openai_primary"]
    injected = [r for r in allowed if r["resource"]["service"] == "model"]
    check(reads and injected, "the story's vault read or model call is missing")
    check(all(r["principal"]["on_behalf_of"] == "dev:alice" for r in injected), "the model was not called for alice")

    proof = json.loads((folder / "proof.json").read_text())
    leaf = base64.b64decode(proof["leaf"]) if not proof["leaf"].startswith("{") else proof["leaf"].encode()
    _, proof_size, proof_root = open_note(proof["checkpoint"], vkey)
    path = [base64.b64decode(part) for part in proof["proof"]]
    check(receipt_id(leaf_hash(leaf)) == steps[4]["receipt"], "the proof is for another record")
    check(path_root(proof["index"], proof_size, leaf_hash(leaf), path) == proof_root, "the proof does not hold")

    changed = folder / "tampered" / "log"
    _, changed_size, changed_root = open_note((changed / "checkpoint").read_text(), vkey)
    tampered = entries(changed, changed_size)
    differ = [i for i, (a, b) in enumerate(zip(tampered, leaves)) if a != b]
    check(differ == [demo["tampered"]["leaf"]], f"leaves {differ} differ, said {demo['tampered']['leaf']}")
    check(root_of([leaf_hash(entry) for entry in tampered]) != changed_root, "the changed log still fits")

    print(f"OK: {len(steps)} steps, {len(leaves)} leaves, {kinds.count('decision')} decisions, "
          f"{len(completions)} completions, checkpoint of {size} signed by {origin}")


if __name__ == "__main__":
    main()
