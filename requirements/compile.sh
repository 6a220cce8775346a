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
