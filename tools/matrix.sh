#!/bin/sh
# Test the supported releases of Salt beside the newest: tools/matrix.sh, as root; about 12 minutes on two cores, and a network.
#
# Two fresh Debians, side by side: one with Python 3.14 and Salt 3008, as Salt's packages have them, and one with Python 3.11, Salt 3006 and
# Salt 3008. In each the quick unit tests and the functional tests run, then a real master and minion of each pair.
set -eu
cd "$(dirname "$0")/.."
unit='-m pytest -q -n 2 --dist worksteal --quick -W ignore tests/unit tests/functional'
pair='-m pytest -q -W ignore tests/mixed'
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

tools/fresh.sh forky 'tools/packages.sh --tests' 'make venv' ".venv/bin/python $unit" ".venv/bin/python $pair" >"$logs/forky" 2>&1 &
forky=$!
tools/fresh.sh bookworm 'tools/packages.sh --tests' 'make venv' 'tools/salt3006.sh' \
    "build/salt3006/bin/python $unit" \
    "STORAGE_MASTER_PYTHON=\$PWD/build/salt3006/bin/python STORAGE_MINION_PYTHON=\$PWD/build/salt3006/bin/python .venv/bin/python $pair" \
    "STORAGE_MASTER_PYTHON=\$PWD/build/salt3006/bin/python .venv/bin/python $pair" \
    "STORAGE_MINION_PYTHON=\$PWD/build/salt3006/bin/python .venv/bin/python $pair" >"$logs/bookworm" 2>&1 &
bookworm=$!

status=0
wait "$forky" || status=$?
wait "$bookworm" || status=$?
for name in forky bookworm; do
    echo "== $name"
    cat "$logs/$name"
done
exit "$status"
