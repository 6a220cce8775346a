#!/bin/sh
# Run the lab in namespaces of its own: tests/lab/run.sh [ARGUMENTS OF PYTEST], or --shell for a prompt on each host.
# Processes, network devices, mounts and shared memory belong to the namespaces, so all of them go when the first process ends, however that happens.
set -eu
cd "$(dirname "$0")/../.."
if [ "${LAB_INSIDE:-}" != yes ]; then
    mkdir -p build/lab
    # One lab at a time: it is heavy, and the folder of its logs is one.
    exec 9>build/lab/lock
    flock -n 9 || { echo "Another lab is running in this checkout" >&2; exit 1; }
    # Inside, there is no network to load it from.
    .venv/bin/python -m tests.lab.qemu build/lab
    LAB_INSIDE=yes exec unshare --net --pid --mount --ipc --uts --fork --kill-child --mount-proc --propagation private "$0" "$@"
fi
# /run: sockets of daemons. /dev/shm: the guests' memory. /mnt: the lab's own files, under a short path.
for folder in /run /dev/shm /mnt; do mount -t tmpfs -o mode=0755 lab "$folder"; done
mkdir -p /run/lock
hostname lab-controller
ip link set lo up
if [ "${1:-}" = --shell ]; then set -- -q -s -p no:cacheprovider tests/lab/shell.py; else set -- -q "$@"; fi
status=0
# Not exec: this shell collects the processes that daemons leave to it.
.venv/bin/python -m pytest -o log_level=WARNING -o timeout=900 "$@" || status=$?
exit $status
