#!/bin/sh
# Builds wheel and sdist twice, from two copies of what is committed, and keeps them if both are the same.
set -eu
cd "$(dirname "$0")/../.."
python=${BUILD_PYTHON:-$PWD/.venv/bin/python}
dist=${DIST:-dist}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for copy in one two; do
    mkdir -p "$folder/$copy/src"
    git archive HEAD | tar -x -C "$folder/$copy/src"
    (cd "$folder/$copy/src" && "$python" -m hatchling build -d "$folder/$copy/dist" > /dev/null)
    (cd "$folder/$copy/dist" && sha256sum -- *) > "$folder/$copy/sums"
done
cmp "$folder/one/sums" "$folder/two/sums" || { echo "two builds differ" >&2; exit 1; }
mkdir -p "$dist"
rm -f "$dist"/llmlog_pipeline-*
cp "$folder"/one/dist/* "$dist/"
cp "$folder/one/sums" "$dist/SHA256SUMS"
