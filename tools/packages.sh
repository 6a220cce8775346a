#!/bin/sh
# Install Debian packages that are missing: tools/packages.sh PACKAGE…, or --demo, --tests, --lab or --fresh for those of packages.txt.
set -eu
PATH=$PATH:/usr/sbin:/sbin$(printf ':%s' /usr/lib/postgresql/*/bin)
export PATH

# Whether all that a package is found by is here.
is_here() {
    if [ $# = 1 ]; then
        dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q ' installed$'
        return
    fi
    shift
    for found_by in "$@"; do
        case $found_by in
            *.so.*) ldconfig -p 2>/dev/null | grep -qF "$found_by" ;;
            *) command -v "$found_by" >/dev/null ;;
        esac || return 1
    done
}

case ${1:-} in --*)
    user=${1#--}
    shift
    while read -r package users programs; do
        # shellcheck disable=SC2086
        case $package,$users, in
            '#'*) ;;
            *",$user,"*) is_here "$package" $programs || set -- "$@" "$package" ;;
        esac
    done <"$(dirname "$0")/packages.txt"
    ;;
esac
[ $# -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing system packages (names as in Debian): install $*" >&2
    exit 1
fi

echo "Installing packages: $*"
export DEBIAN_FRONTEND=noninteractive
# Tests start a PostgreSQL of their own; Debian makes and starts one with the package, unless it is configured not to.
clusters=/etc/postgresql-common/createcluster.d
case " $* " in *' postgresql '*)
    mkdir -p "$clusters"
    trap 'rm -f "$clusters/storage-tests.conf"' EXIT
    trap 'exit 1' HUP INT TERM
    echo 'create_main_cluster = off' >"$clusters/storage-tests.conf"
    ;;
esac
apt-get install -qq -y --no-install-recommends "$@" >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null; }
# Tests start a tgtd of their own; Debian starts one where systemd runs.
case " $* " in *' tgt '*) [ ! -d /run/systemd/system ] || systemctl disable --quiet --now tgt ;; esac
