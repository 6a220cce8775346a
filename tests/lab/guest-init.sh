#!/bin/sh
# First process of a guest: put the guest's own disk over the machine's file system, which is read-only, and start systemd on that.
# The disk (ubd0) holds up/, made by the lab: configuration, units, host name. Kernel parameter checkout= names the checkout.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
modules=/usr/lib/uml/modules/$(uname -r)
insmod "$modules/kernel/fs/overlayfs/overlay.ko"
mount -t ext4 -o noatime /dev/ubda /mnt || exec echo "no disk"
new=/mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work overlay $new || exec echo "no overlay"
if [ ! -e /mnt/booted ]; then
    # A guest runs other services than the machine.
    rm -rf $new/etc/systemd/system $new/var/log $new/var/lib/iscsi $new/etc/iscsi/nodes $new/etc/iscsi/send_targets
    cp -a /mnt/units $new/etc/systemd/system
    # systemd would take the guest for a container.
    rm -rf $new/.dockerenv
    mkdir -p $new/var/log $new/usr/lib/modules
    ln -sfn "$modules" "$new/usr/lib/modules/$(uname -r)"
    : >/mnt/booted
fi
mount -t tmpfs tmpfs $new/tmp
mount -t tmpfs tmpfs $new/var/tmp
mount -t tmpfs tmpfs $new/mnt
for word in $(cat /proc/cmdline); do
    case $word in checkout=*)
        # It may lie under one of the folders that were just covered.
        mkdir -p "$new${word#checkout=}"
        mount -t hostfs -o "ro,${word#checkout=}" none "$new${word#checkout=}" ;;
    esac
done
umount /proc
cd $new
exec chroot . /lib/systemd/systemd systemd.unit=multi-user.target --show-status=0 --log-target=journal
