#!/bin/sh
# The backups there are, newest first.
exec /entrypoint list "$@"
