#!/bin/sh
# Compile the lock files from the *.in files: `make lock`. Takes the path of uv; passes other arguments on (such as --upgrade).
set -eu
cd "$(dirname "$0")"
uv=$1
shift
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --override overrides.txt "$@"
}
compile uv.in -o uv.txt "$@"
compile release.in -o release.txt "$@"
# What administrators install is a part of the formula; storage.environment reads it there.
users=../storage/requirements
compile controller.in -o "$users/controller.txt" "$@"
# The others take the controller's versions, so that one environment can hold all of them.
compile consumer.in --constraint "$users/controller.txt" -o "$users/consumer.txt" "$@"
compile demo.in --constraint "$users/controller.txt" -o demo.txt "$@"
compile dev.in --constraint demo.txt -o dev.txt "$@"
# The same with the other supported line of Salt, for tools/matrix.sh: in plain files, since a lock file's hashes are of its own Salt.
trap 'rm -f .salt3006*' EXIT
sed 's/^-r demo.in$/-r controller.in\n-r salt3006.in/' dev.in >.salt3006.dev.in
sed '/^ *--hash/d; /^salt==/d; s/ *\\$//' dev.txt >.salt3006.constraints
# For Linux alone: elsewhere this Salt needs older packages.
"$uv" pip compile --quiet --python-platform linux --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links --override overrides.txt .salt3006.dev.in --constraint .salt3006.constraints -o salt3006.txt "$@"
