"""The orders: each one needs a reservation in the stock, made for the customer."""

import mesh


def answer(method, path, claims, caller, body):
    return {"order": 1, "reservation": mesh.call("POST", "stock", "/reservations", "stock:reserve", caller, body)}


mesh.serve("orders", answer)
