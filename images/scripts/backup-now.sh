#!/bin/sh
# A backup at once, beside the schedule, and then what retention lets go. What it says goes to the output of the container too.
export CAIRN_LOG="${CAIRN_LOG:-/var/log/backup.log}:/proc/1/fd/2"
exec /entrypoint backup --prune "$@"
