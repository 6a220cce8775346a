#!/bin/sh
# Install Debian packages that are missing: tools/packages.sh PACKAGE…, or --tools for those of the demo and the tests, --lab for the lab's.
set -eu
if [ "${1:-}" = --lab ]; then
    shift
    for package in user-mode-linux systemd udev dbus kmod iproute2 ethtool util-linux e2fsprogs xfsprogs tgt open-iscsi lsscsi multipath-tools dmsetup cryptsetup-bin \
        lvm2 thin-provisioning-tools nfs-kernel-server nfs-common qemu-utils \
        ceph-mon ceph-mgr ceph-osd ceph-common python3-rados python3-rbd \
        qemu-system-x86 busybox-static cpio nvme-cli; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q ' installed$' || set -- "$@" "$package"
    done
fi
if [ "${1:-}" = --tools ]; then
    shift
    # command or file, and its package
    for pair in mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs losetup:mount mount:mount blkid:util-linux lsblk:util-linux flock:util-linux findmnt:util-linux \
        tgtd:tgt iscsi-inq:libiscsi-bin cryptsetup:cryptsetup-bin; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || case " $* " in *" ${pair#*:} "*) ;; *) set -- "$@" "${pair#*:}" ;; esac
    done
    ldconfig -p 2>/dev/null | grep -q libudev.so.1 || set -- "$@" libudev1
fi
[ $# -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null; }
    # Tests start a tgtd of their own; Debian starts one where systemd runs.
    case " $* " in *" tgt "*) [ ! -d /run/systemd/system ] || systemctl disable --quiet --now tgt ;; esac
else
    echo "Missing system packages (names as in Debian): install $*" >&2
    exit 1
fi
