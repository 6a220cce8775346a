#!/bin/sh
# Make the virtual environment .venv hold exactly one lock file: tools/venv.sh LOCK, where LOCK is "demo" or "dev".
# Does nothing when .venv was made from the same lock files; "dev" holds all of "demo".
set -eu
cd "$(dirname "$0")/.."
lock=$1
python=${PYTHON:-python3}

stamp() { # what .venv would be made from
    { pwd; cat requirements/uv.txt "requirements/$1.txt"; } | cksum
}
for have in "$lock" dev; do
    if [ "$(cat ".venv/.$have" 2>/dev/null)" = "$(stamp "$have")" ] && .venv/bin/python -c '' 2>/dev/null; then exit 0; fi
done

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$python is older than Python 3.11; set PYTHON to a newer one" >&2; exit 1; }

# timelib, which Salt needs, has no wheel: a C compiler and Python's headers. ensurepip is apart on Debian.
missing=''
"$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
command -v gcc >/dev/null || missing="$missing gcc libc6-dev"
"$python" -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || missing="$missing python3-dev"
tools/packages.sh $missing

echo "Making .venv from requirements/$lock.txt (once, about a minute)"
rm -rf .venv
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
# --no-deps: the lock file is complete, and cinderlib's own pin of Cinder is overridden in it.
.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --no-deps --require-hashes -r "requirements/$lock.txt"
stamp "$lock" >".venv/.$lock"
