#!/usr/bin/env bash
# Three services that call each other: shop -> orders -> stock. `./run.sh` starts them and waits for
# Ctrl-C; `./run.sh --check` plays what works and what must not, and stops.
set -euo pipefail
cd "$(dirname "$0")"
. ../lib.sh

ports 8443 9443 7443 7201 7202 7203
with_ports countersign.yaml >"$data/countersign.yaml"
cs check --dev --strict >"$data/check.log" 2>&1 || fail "countersign check"
up
door=https://localhost:${port[8443]}
mesh=https://localhost:${port[9443]}

# Three services, each a process with an identity of its own.
serve() { # name, port
    [ -d "$data/$1" ] || cs identity issue "$1" --out "$data/$1" >/dev/null
    start "$1" env COUNTERSIGN_IDENTITY="$data/$1" python3 "$1.py" "$2"
    until_true "$1 listened" "$1" listens "$2"
}
serve shop "${port[7201]}"
serve orders "${port[7202]}"
serve stock "${port[7203]}"
sign_in user:dev/alice jar

if ! $check; then
    stay "curl --cacert $roots -b jar -i -H 'Sec-Fetch-Site: same-origin' -X POST $door/buy/tea" \
        "$countersign explain RECEIPT        # of any answer: why" \
        "$countersign map -o table" \
        "$countersign call POST stock/reservations --identity shop -d '{\"item\":\"tea\"}' --scope stock:reserve"
    exit
fi

say "# alice buys tea"
answer=$(ask jar POST /buy/tea)
allowed "alice buys tea, and her name arrives at the stock" "$answer" '"for": "dev:alice", "by": ["orders", "shop"'
last=$(sed -n 's/.*"receipt": "\(r-[0-9a-z]*\)".*/\1/p' <<<"$answer")
cs audit show "$last" -o json >"$data/last.json"
grep -q 'dev:alice' "$data/last.json" && grep -q '/reservations' "$data/last.json" || fail "the record $last of the last hop"
say "recorded          the last hop: alice, by way of shop and orders ($last)"

say "# the shop tries the stock itself"
denied() { # what, code, command...: ends with 3, refused with that code, and recorded so
    local what=$1 code=$2 status=0
    shift 2
    "$@" >"$data/denied" 2>&1 || status=$?
    [ $status = 3 ] || fail "$what ended with $status: $(cat "$data/denied")"
    receipt=$(grep -o 'r-[0-9a-z]\{12\}' "$data/denied" | head -n 1)
    cs audit show "$receipt" -o json | grep -q "\"code\": *\"$code\"" || fail "$what: $receipt is no $code: $(cat "$data/denied")"
    say "refused  $code   $what ($receipt)"
}
denied "shop asks for a token for the stock: no edge" CSD401 \
    cs call POST stock/reservations --identity "$data/shop" -d '{"item":"tea"}' --scope stock:reserve
as() { # identity, url, curl arguments...
    local who=$1 url=$2
    shift 2
    curl -sS -i --cacert "$roots" --cert "$data/$who/svid.pem" --key "$data/$who/key.pem" "$@" "$url"
}
answer=$(as shop "https://localhost:${port[7203]}/reservations" --insecure -d '{"item":"tea"}')
grep -q 'shop is no gateway' <<<"$answer" || fail "shop went around the gateway: $answer"
say "refused           shop goes around the gateway: by the stock, which hears gateways only"
if curl -sS --insecure "https://localhost:${port[7203]}/levels/tea" >"$data/bare" 2>&1; then
    fail "the stock answered a caller without a certificate: $(cat "$data/bare")"
fi
until_true "the stock closed the connection" stock grep -q 'did not return a certificate' "$data/stock.log"
say "refused           somebody without a certificate: by the stock, in the handshake"

say "# a token of orders, in the wrong hands"
token=$(cs -q token --for stock --scope stock:read --identity "$data/orders" -o short)
allowed "orders shows it" "$(as orders "$mesh/~/stock/levels/tea" -H "Authorization: Bearer $token")" '"level": 12'
refused "shop shows the same token" "$(as shop "$mesh/~/stock/levels/tea" -H "Authorization: Bearer $token")" CSD216
stolen=$receipt
denied "orders reserves in nobody's name" CSD502 \
    cs call POST stock/reservations --identity "$data/orders" -d '{"item":"tea"}' --scope stock:reserve

say "# an edge less"
cp "$data/countersign.yaml" "$data/before.yaml"
sed -i '/^  orders -> stock:/d' "$data/countersign.yaml"
status=0
cs reload >"$data/reload" 2>&1 || status=$?
[ $status = 4 ] && grep -q 'a customer buys' "$data/reload" || fail "the reload ended with $status: $(cat "$data/reload")"
say "not in force      the file says itself that a customer buys; the old policy stays"
allowed "alice buys tea" "$(ask jar POST /buy/tea)" '"for": "dev:alice"'
sed -i '/^tests:/,$d' "$data/countersign.yaml"
cs reload >"$data/reload" 2>&1 || fail "the reload: $(cat "$data/reload")"
further_on() { # what, code: the shop passes on what orders passed on
    local answer further
    answer=$(ask jar POST /buy/tea)
    further=$(grep -o '"receipt": "r-[0-9a-z]*"' <<<"$answer" | grep -o 'r-[0-9a-z]*' | tail -n 1)
    cs audit show "${further:-none}" -o json 2>/dev/null | grep -q "\"code\": *\"$2\"" || fail "$1: expected $2, got: $answer"
    say "refused  $2   $1 ($further)"
}
further_on "without its sentences and that edge, alice's order ends at the stock" CSD401
cp "$data/before.yaml" "$data/countersign.yaml"
cs reload >"$data/reload" 2>&1 || fail "the reload: $(cat "$data/reload")"
allowed "with both again, alice buys tea" "$(ask jar POST /buy/tea)" '"for": "dev:alice"'

say "# orders is revoked"
taken() { grep -c 'POST /orders' "$data/orders.log"; }
before=$(taken)
cs identity revoke identity orders >/dev/null
answer=$(ask jar POST /buy/tea)
grep -q 'the upstream is not available' <<<"$answer" || fail "alice's order, with orders revoked: $answer"
[ "$(taken)" = "$before" ] || fail "orders, revoked, was sent an order"
say "ended             the gateway sends nothing to orders any more ($(grep -o 'r-[0-9a-z]*"' <<<"$answer" | tr -d '"'))"
denied "orders asks for a token" CSD303 cs token --for stock --scope stock:read --identity "$data/orders"
refused "orders shows its token at the door" "$(as orders "$mesh/~/stock/levels/tea" -H "Authorization: Bearer $token")" CSD303
cs identity revoke identity orders --lift >/dev/null
allowed "no longer revoked: alice buys tea" "$(ask jar POST /buy/tea)" '"for": "dev:alice"'

say "# the record"
proved "$last"
proved "$stolen"
tampered "$stolen" CSD216 CSD502
say OK
