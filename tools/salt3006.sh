#!/bin/sh
# Make build/salt3006, the test environment with Salt 3006, once; .venv must be there.
set -eu
cd "$(dirname "$0")/.."
stamp=$(cksum <requirements/salt3006.txt)
[ "$(cat build/salt3006/.made 2>/dev/null)" != "$stamp" ] || exit 0
rm -rf build/salt3006
"${PYTHON:-python3}" -m venv --without-pip build/salt3006
.venv/bin/uv pip install --quiet --python build/salt3006/bin/python --compile-bytecode --no-deps --require-hashes -r requirements/salt3006.txt
echo "$stamp" >build/salt3006/.made
