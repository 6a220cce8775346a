"""Loop devices in tests. They are the machine's, so that tests in other processes see them too,
and look at them.
"""

from __future__ import annotations

from saltstorage.consumer.devices import holders, loop


def let_go(device: str) -> None:
    """Detach a loop device as the consumer does: for whoever has it open for a moment only, it is
    tried again.

    :raises AssertionError: somebody uses it.
    """
    for _ in range(holders.TRIES):
        if loop.detach(device):
            return
        used = holders.lasting(lambda: holders.find(device))
        assert not used, used
    raise AssertionError(f"{device} was open at each try")
