#!/bin/sh
# Installs the wheel in dist into an empty environment, from locked packages, and tries it: sh smoke.sh consumer
set -eu
cd "$(dirname "$0")/../.."
extra=$1
case $extra in
    gateway) lock=consumer ;; # the base's packages are a part of it
    *) lock=$extra ;;
esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps --require-hashes --requirement "requirements/$lock.txt"
"$folder/venv/bin/pip" install --quiet --no-deps --no-index "${DIST:-dist}"/llmlog_pipeline-*.whl
cp deploy/release/smoke.py "$folder/"
cd "$folder"
PYTHONPATH='' venv/bin/python -I smoke.py "$extra"
