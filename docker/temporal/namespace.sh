#!/bin/sh
# Makes the namespace, if it isn't there.
set -eu
temporal operator namespace describe --namespace "$NAMESPACE" > /dev/null 2>&1 && exit 0
temporal operator namespace create --namespace "$NAMESPACE" --retention "$RETENTION"
