"""Placeholder."""

from .lab import Lab


def test_up(lab: Lab) -> None:
    print(lab.controller.run("storage.backends"))
    for guest in lab.guests.values():
        print(guest.run("systemctl status iscsid multipathd salt-storage-reattach --no-pager; systemd-analyze"))
    print(lab.controller.state(lab.guests["db1"], "storage_volume.present", "data", size=1))
