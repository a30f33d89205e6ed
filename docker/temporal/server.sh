#!/bin/sh
# Starts the server with the password of a file: its image reads the environment only.
set -eu
POSTGRES_PWD="$(cat /run/secrets/postgres_password)"
export POSTGRES_PWD
exec /etc/temporal/entrypoint.sh
