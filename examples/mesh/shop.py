"""The shop: a customer buys something, and it places the order for her."""

import json, mesh


def answer(method, path, claims, caller, body):
    order = json.dumps({"item": path.removeprefix("/buy/")})
    return {"sold": mesh.call("POST", "orders", "/orders", "order:place", caller, order)}


mesh.serve("shop", answer)
