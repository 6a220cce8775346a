#!/bin/bash
# The init of a QEMU guest, on the machine's root: mounts, udev, and the agent by which the tests run commands.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
word() { sed -n "s/.*lab\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
# The checkout may lie under one of the folders that are covered now.
checkout=$(word checkout)
mkdir /lab-checkout && mount --bind "$checkout" /lab-checkout
for folder in /dev/shm /run /tmp; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p "$checkout" && mount --move /lab-checkout "$checkout"
ln -sfn /proc/self/fd /dev/fd
word name >/proc/sys/kernel/hostname
mkdir -p /lib/modules && ln -sfn "$(word modules)" "/lib/modules/$(uname -r)"
ip link set lo up
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --subsystem-match=block
modprobe virtio_console
udevadm settle
exec 3<>"$(echo /dev/vport*p1)" || exit
# A line is a script in base64; the answer is its exit status and its output in base64.
echo ready >&3
while read -r line <&3; do
    output=$(base64 -d <<<"$line" | timeout --foreground -k 5 600 bash 2>&1 3<&- | base64 -w0; exit "${PIPESTATUS[1]}")
    echo "$? $output" >&3
done
