#!/bin/sh
# Makes docker/secrets/: passwords by chance, and the API keys of the environment (empty where there are none).
# What is there already stays.
set -eu
cd "$(dirname "$0")/secrets"
umask 022 # compose mounts the files with their own rights, and the worker isn't root

keep() { # NAME VALUE
    [ -e "$1" ] || printf '%s' "$2" > "$1"
}
password() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

keep postgres_password "$(password)"
keep grafana_password "$(password)"
keep openai_api_key "${OPENAI_API_KEY:-}"
keep anthropic_api_key "${ANTHROPIC_API_KEY:-}"
echo "docker/secrets: Grafana's user is admin, its password in grafana_password"
