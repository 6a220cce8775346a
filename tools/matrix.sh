#!/bin/sh
# Test with a supported release of Salt that `make test` on Debian 12 does not have: tools/matrix.sh, as root, after `make venv`.
#
# On Python 3.11 that is Salt 3006, which is installed into build/salt3006; on a newer Python, the Salt of .venv. The quick unit tests run, the
# functional tests, and a real master with a minion; with LONG=yes all tests of `make test`, and the master with a minion of the other release,
# either way round.
set -eu
cd "$(dirname "$0")/.."
newest=$PWD/.venv/bin/python
python=$newest
if "$newest" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
    tools/salt3006.sh
    python=$PWD/build/salt3006/bin/python
fi

release() { "$1" -c 'import platform, salt.version; print("Salt", salt.version.__version__, "on Python", platform.python_version())'; }
pair() { # master, minion
    echo "Master: $(release "$1"); minion: $(release "$2")"
    STORAGE_MASTER_PYTHON=$1 STORAGE_MINION_PYTHON=$2 "$newest" -m pytest -q -W ignore tests/mixed
}

echo "Tests with $(release "$python")"
if [ "${LONG:-}" = yes ]; then
    "$python" -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -W ignore tests/unit tests/functional tests/integration tests/conformance
else
    "$python" -m pytest -q -n 2 --dist worksteal --quick -W ignore tests/unit tests/functional
fi
pair "$python" "$python"
if [ "${LONG:-}" = yes ] && [ "$python" != "$newest" ]; then
    pair "$python" "$newest"
    pair "$newest" "$python"
fi
