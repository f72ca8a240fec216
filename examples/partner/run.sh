#!/usr/bin/env bash
# Two partners at doors of their own. `./run.sh` starts everything and waits for Ctrl-C;
# `./run.sh --check` plays what works and what must not, checks every answer, and stops.
#
# COUNTERSIGN names the program (default: `countersign` on the PATH).
set -euo pipefail
cd "$(dirname "$0")"

countersign=${COUNTERSIGN:-countersign}
check=false
[ "${1:-}" = --check ] && check=true
umask 077

data=$(mktemp -d)
export COUNTERSIGN_DATA=$data/data
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

# 1. what each partner runs: an authority, and certificates for clients
authority() { # company
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/O=$1" \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' \
        -keyout "$data/$1-ca.key" -out "$data/partners/$1.pem" 2>>"$data/openssl.log"
}
client() { # company, DNS name, file
    printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' \
        'extendedKeyUsage=clientAuth' "subjectAltName=DNS:$2" >"$data/extensions"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=$1/CN=$2" \
        -keyout "$data/$3.key" -out "$data/$3.csr" 2>>"$data/openssl.log"
    openssl x509 -req -in "$data/$3.csr" -CA "$data/partners/$1.pem" -CAkey "$data/$1-ca.key" -days 7 \
        -CAcreateserial -extfile "$data/extensions" -out "$data/$3.pem" 2>>"$data/openssl.log"
}
mkdir "$data/partners"
for company in globex initech; do authority $company; done
client globex reporting.globex.example globex
client globex intern.globex.example intern
client initech billing.initech.example initech

# 2. what we run: server and gateway in one process, which believes the two authorities at their doors
cp countersign.yaml "$data/"
start up env -C "$data" "$countersign" up --dev
until_true 60 "countersign" "$countersign" status

# 3. the service that they call
"$countersign" identity issue hms-api --out "$data/hms-api" >/dev/null
start hms-api "$countersign" demo serve hms-api --listen 127.0.0.1:7101 --identity "$data/hms-api"
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
until_true 60 "hms-api" listens 7101

# What a partner is given: an address, our root, and the name of the service.
roots=$data/hms-api/bundle.pem
declare -A door=([globex]=https://localhost:8444 [initech]=https://localhost:8445)
# By HTTP/1.1, because curl 7.88 loses an answer over HTTP/2 that comes before it has sent its
# body, and a refusal does not wait for one.
as() { # certificate, url, curl arguments...
    local who=$1 url=$2
    shift 2
    curl -sS -i --http1.1 --cacert "$roots" --cert "$data/$who.pem" --key "$data/$who.key" "$@" "$url"
}
asked() { # certificate, door, identity
    as "$1" "${door[$2]}/oauth2/token" -d grant_type=client_credentials -d "client_id=$3" -d audience=hms-api
}
token() { # certificate, door, identity
    asked "$1" "$2" "$3" | sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p'
}
call() { # certificate, door, token, method, path, body
    as "$1" "${door[$2]}/~/hms-api$5" -X "$4" -H "Authorization: Bearer $3" \
        -H 'Content-Type: application/json' ${6:+-d "$6"}
}

if ! $check; then
    say "Everything runs; data in $data. Try, in another terminal:"
    say "  cd $data; export COUNTERSIGN_DATA=$COUNTERSIGN_DATA"
    say "  token=\$(curl -sS --cacert $roots --cert globex.pem --key globex.key -d grant_type=client_credentials -d client_id=globex-reporting -d audience=hms-api ${door[globex]}/oauth2/token | sed 's/.*\"access_token\": *\"\\([^\"]*\\)\".*/\\1/')"
    say "  curl -i --cacert $roots --cert globex.pem --key globex.key -H \"Authorization: Bearer \$token\" ${door[globex]}/~/hms-api/reports/42"
    say "  $countersign audit tail"
    say "Ctrl-C stops it and removes the data."
    wait
    exit 0
fi

receipt_of() { sed -n 's/^countersign-receipt: *\(r-[0-9a-z]*\).*/\1/ip' <<<"$1" | head -n 1; }
allowed() { # what, answer
    head -n 1 <<<"$2" | grep -q ' 20[01]' || fail "$1: $2"
    say "allowed  $1 ($(receipt_of "$2"))"
}
refused() { # what, answer, code
    local receipt
    grep -q "\"code\": *\"$3\"" <<<"$2" || fail "$1: expected $3, got: $2"
    receipt=$(receipt_of "$2")
    "$countersign" audit show "$receipt" -o json | grep -q "\"code\": *\"$3\"" || fail "$1: no record $receipt of it"
    say "refused  $3: $1 ($receipt)"
}

globex=$(token globex globex globex-reporting)
initech=$(token initech initech initech-billing)
allowed "globex reads a report" "$(call globex globex "$globex" GET /reports/42)"
allowed "initech files a report" "$(call initech initech "$initech" POST /reports '{"text":"paid"}')"
refused "globex files a report" "$(call globex globex "$globex" POST /reports '{}')" CSD401
refused "globex's token, shown by initech" "$(call initech initech "$globex" GET /reports/42)" CSD216
refused "another name under globex's authority" "$(asked intern globex globex-reporting)" CSD225
if as globex "${door[initech]}/oauth2/token" -d grant_type=client_credentials >"$data/wrong.log" 2>&1; then
    fail "globex's certificate opened initech's door"
fi
until_true 60 "the record of globex at initech's door" sh -c "'$countersign' audit tail -o json | grep -q CSD202"
say "refused  CSD202: globex at initech's door"
"$countersign" identity revoke identity globex-reporting >/dev/null
refused "globex, revoked" "$(call globex globex "$globex" GET /reports/42)" CSD303
say "OK"
