#!/bin/sh
# Restores the backup of that time. Calling it is the consent; on a terminal there are ten seconds to think again.
set -eu
if [ $# -eq 0 ]; then
  echo "usage: $0 YYYY-MM-DD-HHMMSS" >&2
  echo "there are:" >&2
  /entrypoint list >&2
  exit 2
fi
if [ -t 0 ]; then
  echo "Restoring $1 replaces what is there now. Ctrl-C within 10 seconds cancels." >&2
  sleep 10
fi
exec /entrypoint restore "$@" --yes
