#!/bin/sh
# Sends a signal to everybody in a group, over Horo's API. Needs curl (7.76 or later).
#
#   horo token create monitor --scope signal:send          # shows the token, once
#   API=http://127.0.0.1:8080 TOKEN=... sh signal.sh office@example.test 'Backup failed' db1
#
# Where nobody answers, or Horo says "later", it is tried again: with the same key it is one signal, however often it arrives.
set -eu

group=$1 text=$2 title=${3:-}
key=${KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}

json() { # a line of text as a JSON string
    printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | sed 's/["\\]/\\&/g')"
}

# the token goes through a pipe: what stands in a command line, everybody on the machine can read
printf 'Authorization: Bearer %s\n' "$TOKEN" |
    curl --silent --show-error --fail-with-body --max-time 30 --retry 5 --retry-connrefused \
        --header @- --header "Idempotency-Key: $key" --header 'Content-Type: application/json' \
        --data "{\"text\": $(json "$text"), \"title\": $(json "$title")}" \
        "$API/api/v1/groups/$group/signals"
echo
