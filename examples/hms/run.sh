#!/usr/bin/env bash
# The clinic's story as separate processes. `./run.sh` starts them and waits for Ctrl-C;
# `./run.sh --check` plays the story and the attacks, checks every answer, and stops.
#
# COUNTERSIGN names the program (default: `countersign` on the PATH).
set -euo pipefail
cd "$(dirname "$0")"

countersign=${COUNTERSIGN:-countersign}
check=false
[ "${1:-}" = --check ] && check=true
umask 077

data=$(mktemp -d)
export COUNTERSIGN_DATA=$data
pids=()
stop() {
    trap - EXIT INT TERM
    # The last started stops first; the server last, so that it sees the others go.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null || true; done
    wait || true
    rm -rf "$data"
}
trap stop EXIT INT TERM

say() { printf '%s\n' "$*"; }
fail() {
    say "FAILED: $*"
    tail -n 30 "$data"/*.log >&2 || true
    exit 1
}
until_true() { # seconds, what, command...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "$what did not come up"
        sleep 0.1
    done
}
start() { # name, command...
    local name=$1
    shift
    "$@" >"$data/$name.log" 2>&1 &
    pids+=($!)
}

# 1. a fake model API with a certificate authority of its own
head -c 24 /dev/urandom | base64 >"$data/model.key"
start model "$countersign" demo serve model --listen 127.0.0.1:7102 --folder "$data/model" --key-file "$data/model.key"
until_true 60 "the fake model" test -s "$data/model/ca.pem"

# 2. server and gateway in one process; the gateway believes the fake's authority for third parties
start up env SSL_CERT_FILE="$data/model/ca.pem" "$countersign" up --dev
until_true 60 "countersign" "$countersign" status

# 3. two secrets: one is put into calls at the gateway, one is read by the API itself
"$countersign" secret put model --file "$data/model.key" >/dev/null
head -c 24 /dev/urandom | base64 | "$countersign" secret put openai_primary >/dev/null

# 4. identities
for name in hms-api stats-worker research-bot; do
    "$countersign" identity issue "$name" --out "$data/$name" >/dev/null
done

# 5. the API
start hms-api "$countersign" demo serve hms-api --listen 127.0.0.1:7101 --identity "$data/hms-api"
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
until_true 60 "hms-api" listens 7101

door=https://localhost:8443
roots=$data/hms-api/bundle.pem
jar=$data/jar
sign_in() { # member
    local form
    rm -f "$jar"
    form=$(curl -sS --cacert "$roots" -c "$jar" "$door/.countersign/login" | sed -n 's/.*name="form" value="\([^"]*\)".*/\1/p')
    curl -sS --cacert "$roots" -b "$jar" -c "$jar" -o /dev/null -H 'Sec-Fetch-Site: same-origin' \
        --data-urlencode "form=$form" --data-urlencode return=/ --data-urlencode "member=$1" "$door/.countersign/login"
    grep -q __Host-cs "$jar" || fail "signing in as $1"
}
# By HTTP/1.1, because curl 7.88 loses an answer over HTTP/2 that comes before it has sent its
# body, and a refusal does not wait for one.
ask() { # method, path, body; prints head and body
    curl -sS -i --http1.1 --cacert "$roots" -b "$jar" -H 'Sec-Fetch-Site: same-origin' -H 'Content-Type: application/json' \
        -X "$1" ${3:+-d "$3"} "$door$2"
}

if ! $check; then
    sign_in user:dev/alice
    say "Everything runs; data in $data. Signed in as alice. Try, in another terminal:"
    say "  export COUNTERSIGN_DATA=$data"
    say "  curl --cacert $roots -b $jar -i -H 'Sec-Fetch-Site: same-origin' -d '{\"prompt\":\"Summarize the visit\"}' $door/ai/summary"
    say "  $countersign audit tail"
    say "Ctrl-C stops it and removes the data."
    wait
    exit 0
fi

receipt_of() { sed -n 's/^countersign-receipt: *\(r-[0-9a-z]*\).*/\1/ip' <<<"$1" | head -n 1; }
pillar_of() { sed -n 's/^countersign-pillar: *\([a-z-]*\).*/\1/ip' <<<"$1" | head -n 1; }
refused() { # what, answer, pillar
    local receipt
    [ "$(pillar_of "$2")" = "$3" ] || fail "$1: expected a refusal by $3, got: $2"
    receipt=$(receipt_of "$2")
    "$countersign" audit show "$receipt" -o json | grep -q "\"pillar\": *\"$3\"" || fail "$1: no record $receipt of it"
    say "refused  $3: $1 ($receipt)"
}

say "checking the story"
sign_in user:dev/alice
answer=$(ask POST /ai/summary '{"prompt":"Summarize the visit"}')
grep -q '"model_saw_our_token": *false' <<<"$answer" || fail "the summary: $answer"
allowed=$(receipt_of "$answer")
say "allowed  alice's summary ($allowed)"

if openssl s_client -connect localhost:9443 -tls1_2 </dev/null >"$data/s_client.log" 2>&1; then fail "TLS 1.2 went through"; fi
grep -qi 'protocol version' "$data/s_client.log" || fail "TLS 1.2 was refused otherwise: $(cat "$data/s_client.log")"
until_true 60 "the record of the TLS 1.2 handshake" sh -c "'$countersign' audit tail -o json | grep -q CSD101"
say "refused  encryption: a TLS 1.2 handshake"

token=$("$countersign" token --for hms-api --scope ai:invoke-summary --identity "$data/research-bot" -o short)
as() { # identity, url, curl arguments...
    local who=$1 url=$2
    shift 2
    curl -sS -i --http1.1 --cacert "$roots" --cert "$data/$who/svid.pem" --key "$data/$who/key.pem" "$@" "$url"
}
refused "a token stolen by stats-worker" \
    "$(as stats-worker https://localhost:9443/~/hms-api/ai/summary -X POST -d '{}' -H "Authorization: Bearer $token")" identity

sid=$("$countersign" audit show "$allowed" -o json | sed -n 's/.*"sid": *"\([0-9a-f]\{64\}\)".*/\1/p' | head -n 1)
"$countersign" identity revoke session "$sid" >/dev/null
refused "a revoked session" "$(ask POST /ai/summary '{"prompt":"again"}')" continuous-verification

code=0
"$countersign" secret get openai_primary --scope ai:key:read --identity "$data/stats-worker" >"$data/get.log" 2>&1 || code=$?
[ $code = 3 ] || fail "the worker's read ended with $code: $(cat "$data/get.log")"
grep -q micro-segmentation "$data/get.log" || fail "the worker's read: $(cat "$data/get.log")"
say "refused  micro-segmentation: stats-worker reads a secret"

sign_in user:dev/alice
refused "alice files a report" "$(ask POST /reports '{"text":"mine"}')" least-privilege

say "checking the record"
key=$("$countersign" status -o json | sed -n 's/.*"log_key": *"\([^"]*\)".*/\1/p')
"$countersign" audit prove "$allowed" -o "$data/proof.json" >/dev/null
"$countersign" audit verify "$data/proof.json" --key "$key" | grep -q VERIFIED || fail "the proof"
# The log moves on while it is read, so a copy of it is verified.
cp -r "$data/log" "$data/copy"
"$countersign" audit verify "$data/copy" --key "$key" | grep -q VERIFIED || fail "the log"
# A narrower bundle may be there still beside the one that counts.
find "$data/copy/tile/entries" -type f -exec sed -i 's/"status":"denied"/"status":"permit"/' {} +
code=0
"$countersign" audit verify "$data/copy" --key "$key" >"$data/tampered.log" 2>&1 || code=$?
[ $code = 5 ] || fail "a changed record ended with $code: $(cat "$data/tampered.log")"
say "found    audit: a changed record ($(grep -o 'leaf[^:]*' "$data/tampered.log" | head -n 1))"
say "OK"
