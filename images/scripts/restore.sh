#!/bin/sh
# Restores the backup of that time. Calling it is the consent; there are ten seconds to think again, when the backup was read
# and before anything is stopped or replaced. What it says goes to the output of the container too.
set -eu
if [ $# -eq 0 ]; then
  echo "usage: $0 YYYY-MM-DD-HHMMSS" >&2
  echo "there are:" >&2
  /entrypoint list >&2
  exit 2
fi
export CAIRN_LOG="${CAIRN_LOG:-/var/log/backup.log}:/proc/1/fd/2"
exec /entrypoint restore --yes --delay 10s "$@"
