"""The stock: says for whom it reserved, who asked in her name, and what the decision's receipt is."""

import json, mesh


def answer(method, path, claims, caller, body):
    if method == "GET":
        return {"level": 12, "for": claims["sub"]}
    by = [who.removeprefix(f"spiffe://{mesh.DOMAIN}/") for who in claims.get("act", [])]
    return {"item": json.loads(body)["item"], "for": claims["sub"], "by": by, "receipt": claims["receipt"]}


mesh.serve("stock", answer)
