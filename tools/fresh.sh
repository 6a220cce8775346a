#!/bin/sh
# Run commands on a fresh Debian, in a clean clone of the committed checkout: tools/fresh.sh [SUITE [COMMAND…]], as root.
# SUITE is bookworm (the default), trixie or forky; the commands are those of the README, `make demo` and `make test`, unless others are given.
#
# The fresh Debian is made by debootstrap in a temporary folder. It holds what the README asks for and nothing else. What this machine needs to reach
# its package mirrors is taken over: resolver, certificates, the configuration of apt, pip and uv. A private mount namespace has the mounts and a private
# PID namespace the processes, so both end with this script, even when it is killed; unless it is killed by KILL, it also
# detaches the loop devices that were left and removes the folder.
set -eu
umask 022
checkout=$(cd "$(dirname "$0")/.." && pwd)
if [ "$(id -u)" != 0 ]; then
    echo "tools/fresh.sh makes a chroot and mounts, so it needs root: sudo $0" >&2
    exit 1
fi
if [ -z "${FRESH_NAMESPACE:-}" ]; then
    PATH=$PATH:/usr/sbin:/sbin
    export PATH
    "$checkout/tools/packages.sh" --fresh
    FRESH_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$@"
fi
unset FRESH_NAMESPACE

suite=${1:-bookworm}
[ $# = 0 ] || shift
[ $# -gt 0 ] || set -- 'make demo' 'make test'
packages=git,make,python3,python3-venv,ca-certificates
# Where the clone is, inside.
clone=/root/formula

work=$(realpath "$(mktemp -d "${TMPDIR:-/var/tmp}/fresh.XXXXXX")")
root=$work/root
mkdir "$root"
child=
# Lists the mounts in the folder, outermost first.
mounted() { awk -v "below=$work/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo; }
# However this script ends, by a signal too.
end() {
    status=$?
    trap '' HUP INT TERM
    unset IFS
    if [ -n "$child" ]; then
        # The first process of a PID namespace takes all others with it, and unshare ends when they have ended.
        first=$(cat "/proc/$child/task/$child/children" 2>/dev/null || :)
        # shellcheck disable=SC2086
        kill -KILL ${first:-"$child"} 2>/dev/null || :
        wait
    fi
    left=$(losetup --list --noheadings --output NAME,BACK-FILE | awk -v "below=$root/" 'index($2, below) == 1 { print $1 }')
    mounted | tac | while read -r path; do umount --lazy "$(printf '%b' "$path")" || :; done
    for device in $left; do losetup --detach "$device" 2>/dev/null || :; done
    if [ -n "$(mounted)" ]; then
        # Folders of this machine may be mounted there; what is in them stays.
        echo "Still mounted, and so not removed:" $(mounted) >&2
        status=1
    else
        rm -rf --one-file-system "$work" || status=1
    fi
    [ -z "$left" ] || { echo "Loop devices were left, and are detached:" $left >&2; status=1; }
    exit "$status"
}
trap end EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs in a PID namespace that ends when this script does. A shell that waits for what is in the background hears signals at once.
inside() {
    setpriv --pdeathsig KILL unshare --pid --fork --kill-child -- "$@" </dev/null &
    child=$!
    wait "$child"
    child=
}

# A mount point of its own, as the root of every machine is: without one, nobody can change how its mounts propagate.
mount --bind "$root" "$root"

# The mirrors of this machine; where it is no Debian, Debian's own.
. /etc/os-release
[ "$ID" = debian ] || VERSION_CODENAME=none
mirrors=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v "host=${VERSION_CODENAME:-none}" -v "suite=$suite" '$2 ~ "^" host "(-updates|-security)?$" { sub(host, suite, $2); print }' | sort -u)
mirror=$(echo "$mirrors" | awk -v "suite=$suite" '$2 == suite { print $1; exit }')
[ -n "$mirror" ] || { mirror=http://deb.debian.org/debian/ mirrors="http://deb.debian.org/debian/ $suite"; }

echo "Making a fresh Debian ($suite)"
# An older debootstrap does not know a newer suite, which it makes as it makes sid.
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
inside debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror" "$script" >"$work/log" 2>&1 || {
    status=$?
    cat "$work/log" >&2
    exit "$status"
}

echo "$mirrors" | awk '{ print "deb", $1, $2, "main" }' >"$root/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(http|https|ftp|ForceIPv|Retries|Check-Valid-Until|Check-Date)' >"$root/etc/apt/apt.conf.d/90fresh" || :
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
if [ -d /usr/local/share/ca-certificates ]; then
    cp -R /usr/local/share/ca-certificates "$root/usr/local/share/"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
fi

# Files and folders that the configuration of pip or uv names, in files or in the environment, are there too under their names.
take() {
    # The files of an index lie beside its folder of pages, by custom "simple".
    named=${1%/simple}
    if [ -e "$root$named" ]; then
        return
    elif [ -f "$named" ]; then
        mkdir -p "$root$(dirname "$named")"
        cp -L "$named" "$root$named"
    elif [ -d "$named" ]; then
        mkdir -p "$root$named"
        mount --bind "$named" "$root$named"
        mount -o remount,bind,ro "$root$named"
    fi
}
named_paths() { grep -oE '(file://)?/[^][:space:]"'"'"',]+' | sed -E 's#^file://##; s#/+$##' | sort -u; }
for file in /etc/xdg/pip/pip.conf /etc/pip.conf /etc/xdg/uv/uv.toml /etc/uv/uv.toml "${PIP_CONFIG_FILE:-}" "${UV_CONFIG_FILE:-}" \
    "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf" "$HOME/.config/uv/uv.toml"; do
    [ -f "$file" ] || continue
    case $file in
        "$HOME"/*) mkdir -p "$root/root/$(dirname "${file#"$HOME"/}")" && cp -L "$file" "$root/root/${file#"$HOME"/}" ;;
        *) take "$file" ;;
    esac
    for path in $(named_paths <"$file"); do take "$path"; done
done
# shellcheck disable=SC2013
kept=$(env | grep -E '^((PIP|UV)_[A-Z_]+|(http|https|ftp|no|all|HTTP|HTTPS|FTP|NO|ALL)_(proxy|PROXY)|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)=' || :)
for path in $(echo "$kept" | named_paths); do take "$path"; done

git clone --quiet --no-hardlinks "$checkout" "$root$clone"

# The kernel's side of a machine, in which the kernel is this one's.
mount --rbind /sys "$root/sys"
mount --bind /dev "$root/dev"
mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
if [ -d /lib/modules ]; then
    mkdir -p "$root/lib/modules"
    mount --bind /lib/modules "$root/lib/modules"
    mount -o remount,bind,ro "$root/lib/modules"
fi

# The first process of the namespace, which reaps what others left: a shell that waits.
cat >"$root/run.sh" <<'RUN'
set -eu
cd "$1"
shift
for command in "$@"; do
    echo "\$ $command"
    sh -c "$command"
done
RUN
IFS='
'
# shellcheck disable=SC2086
inside sh -euc 'mount -t proc proc "$1/proc"; exec chroot "$@"' sh "$root" \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root ${CI:+"CI=$CI"} ${kept} \
    sh /run.sh "$clone" "$@"
