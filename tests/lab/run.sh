#!/bin/sh
# Run the lab in namespaces of its own: tests/lab/run.sh [ARGUMENTS OF PYTEST], --all for all scenarios, or --shell for a prompt on each host.
# Processes, network devices, mounts and shared memory belong to the namespaces, so all of them go when the first process ends, however that
# happens; when this script ends otherwise than by KILL, it looks whether that is so.
set -eu
cd "$(dirname "$0")/../.."

# The part ends when this script does, even when that is killed. A shell starts what runs in the background deaf to Ctrl-C.
part() {
    name=$1
    shift
    LAB_PART=$name exec env --default-signal=INT,QUIT setpriv --pdeathsig KILL \
        unshare --net --pid --mount --ipc --uts --fork --kill-child --mount-proc --propagation private "tests/lab/run.sh" "$@" <&8 8<&-
}

# However this script ends, by a signal too.
end() {
    status=$?
    trap '' HUP INT TERM
    # shellcheck disable=SC2086
    [ -z "$parts" ] || kill -KILL $parts || :
    wait
    .venv/bin/python -m tests.lab.leftovers "$LAB_RUN" || status=1
    exit "$status"
}

if [ -z "${LAB_PART:-}" ]; then
    mkdir -p build/lab
    # One lab at a time: it is heavy, and the folder of its logs is one.
    exec 9>build/lab/lock
    flock -n 9 || { echo "Another lab is running in this checkout" >&2; exit 1; }
    # For the prompts of the shell; where no terminal is, there may be no input at all.
    if (true 8<&0) 2>/dev/null; then exec 8<&0; else exec 8</dev/null; fi
    rm -rf build/lab/logs build/lab/parts
    # Inside, there is no network to load it from.
    .venv/bin/python -m tests.lab.qemu build/lab
    # For a long scenario; minutes, once.
    case " $* ${LAB_LONG:+--long} " in *upgrade* | *" --all --long "* | *" tests/lab "*) .venv/bin/python -m tests.lab.onedir build/lab ;; esac
    gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o build/lab/registers.so tests/lab/files/registers.c
    # The name tells this run's leftovers from the processes and devices of others; see leftovers.py.
    LAB_RUN=lab-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
    export LAB_RUN
    echo "$LAB_RUN" >build/lab/run
    parts=''
    trap end EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    status=0
    # In the background, and waited for: a shell that waits for what is in the foreground does not hear signals.
    if [ "${1:-}" != --all ]; then
        part one "$@" &
        parts=$!
        wait "$parts" || status=$?
    else
        # Two labs side by side, each with networks of its own: a guest has one processor, and much of its time is waiting.
        own=$(printf 'tests/lab/test_%s.py ' nvme ceph multipath grow lvm nfs)
        if [ -z "${LAB_LONG:-}" ]; then set -- -m "not long"; else set --; fi
        # shellcheck disable=SC2086
        part storage "$@" --durations=20 $own >build/lab/storage.out 2>&1 &
        storage=$!
        # shellcheck disable=SC2046
        part hosts "$@" --durations=20 $(printf -- '--ignore=%s ' $own) tests/lab &
        hosts=$!
        parts="$storage $hosts"
        wait "$hosts" || status=$?
        parts=$storage
        echo "The second lab, beside it ($own):"
        wait "$storage" || status=$?
        cat build/lab/storage.out
    fi
    parts=''
    [ ! -d build/lab/parts ] || .venv/bin/python -m tests.lab.verified
    exit $status
fi
# /run: sockets of daemons. /dev/shm: the guests' memory. /mnt: the lab's own files, under a short path.
for folder in /run /dev/shm /mnt; do mount -t tmpfs -o mode=0755 "$LAB_RUN" "$folder"; done
mkdir -p /run/lock
hostname lab-controller
ip link set lo up
if [ "${1:-}" = --shell ]; then set -- -q -s -p no:cacheprovider tests/lab/shell.py; else set -- -q "$@"; fi
status=0
# Not exec: this shell collects the processes that daemons leave to it.
.venv/bin/python -m pytest -o log_level=WARNING -o timeout=900 "$@" || status=$?
exit $status
