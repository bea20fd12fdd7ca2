#!/bin/sh
# Restores the backup of that time. Calling it is the consent; there are ten seconds to think again, when the backup was read
# and before anything is stopped or replaced.
set -eu
if [ $# -eq 0 ]; then
  echo "usage: $0 YYYY-MM-DD-HHMMSS" >&2
  echo "there are:" >&2
  /entrypoint list >&2
  exit 2
fi
exec /entrypoint restore --yes --delay 10s "$@"
