"""Another process with the same backend, as after a restart of the controller: it reports a
volume's size and connection.

Reads ``{"provider": …, "config": …, "volume": …, "connection": …, "connector": …}`` and writes
``{"size": …, "info": …}``, as JSON.
"""

from __future__ import annotations

import json
import os
import sys

from saltstorage.providers import BackendConfig, ProviderVolume, find_provider


def main() -> None:
    given = json.load(sys.stdin)
    provider = find_provider(given["provider"])(BackendConfig(**given["config"]))
    provider.load()
    volume = ProviderVolume(**given["volume"])
    provider.restore(volume)
    answer = {"size": provider.volume_size(volume), "info": provider.connect(volume, given["connection"], given["connector"])}
    provider.close()
    # Drivers may have written to standard output before.
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
    # As the controller ends: drivers may have threads, and finalizers, that never end.
    os._exit(0)


if __name__ == "__main__":
    main()
