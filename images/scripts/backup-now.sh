#!/bin/sh
# A backup at once, beside the schedule.
exec /entrypoint backup "$@"
