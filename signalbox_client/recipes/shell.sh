#!/bin/sh
# Ask, wait, act, report: with curl alone. SIGNALBOX_URL and SIGNALBOX_TOKEN say where and who.
set -eu
api="$SIGNALBOX_URL/api/v1/approvals"
call() { curl -sS --fail-with-body --retry 5 -H "Authorization: Bearer $SIGNALBOX_TOKEN" "$@"; }

asked=$(call "$api" -H "Content-Type: application/json" -d '{
  "title": "Delete the index orders-2019", "tool": "delete_index", "arguments": {"name": "orders-2019"},
  "external_id": "'"${1:-cleanup-17}"'"}') || { printf '%s\n' "$asked" >&2; exit 1; }
id=$(printf %s "$asked" | grep -o '"id": *"apr_[^"]*"' | head -n 1 | cut -d '"' -f 4)
[ -n "$id" ] || { echo "This is no answer of Signalbox's: $asked" >&2; exit 1; }

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
until code=$(call "$api/$id/answer?wait=50" -o "$answer" -w '%{http_code}'); [ "$code" = 200 ]; do
  case $code in
    408 | 429) ;;  # it may work later, as after 5xx and no answer at all
    4*) cat "$answer" >&2; exit 1 ;;
  esac
  sleep 1
done

if grep -qE '"verdict": *"(approve|edit)"' "$answer"; then
  name=$(grep -o '"name": *"[^"]*"' "$answer" | head -n 1 | cut -d '"' -f 4)
  echo "deleting $name"
  call "$api/$id/outcome" -H "Content-Type: application/json" -d '{"status": "done"}' -o /dev/null
else
  echo "kept"
fi
