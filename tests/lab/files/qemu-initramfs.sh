#!/bin/busybox sh
# The first program of a QEMU guest: the machine's own root, read-only over 9p, below a file system in memory.
# Writes of the guest never reach the machine.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "$module" || echo "lab: cannot load $module"; done </modules
mkdir -p /machine /memory /root
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /machine
mount -t tmpfs -o size=75% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/machine,upperdir=/memory/upper,workdir=/memory/work overlay /root
for folder in proc sys dev; do umount /$folder; done
read -r init </next
exec switch_root /root /bin/bash "$init"
