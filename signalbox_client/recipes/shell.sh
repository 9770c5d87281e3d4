#!/bin/sh
# Ask, wait, act, report: with curl alone. SIGNALBOX_URL and SIGNALBOX_TOKEN say where and who.
set -eu
api="$SIGNALBOX_URL/api/v1/approvals"
call() { curl -sS --fail-with-body --retry 5 -H "Authorization: Bearer $SIGNALBOX_TOKEN" "$@"; }

asked=$(call "$api" -H "Content-Type: application/json" -d '{
  "title": "Delete the index orders-2019", "tool": "delete_index", "arguments": {"name": "orders-2019"},
  "external_id": "'"${1:-cleanup-17}"'"}')
id=$(printf %s "$asked" | grep -o '"id": *"apr_[^"]*"' | head -n 1 | cut -d '"' -f 4)

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
until [ "$(call "$api/$id/answer?wait=50" -o "$answer" -w '%{http_code}')" = 200 ]; do sleep 1; done

if grep -qE '"verdict": *"(approve|edit)"' "$answer"; then
  name=$(grep -o '"name": *"[^"]*"' "$answer" | head -n 1 | cut -d '"' -f 4)
  echo "deleting $name"
  call "$api/$id/outcome" -H "Content-Type: application/json" -d '{"status": "done"}' -o /dev/null
else
  echo "kept"
fi
