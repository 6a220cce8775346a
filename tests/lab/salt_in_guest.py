"""Salt without a master, in one process that lives as long as the guest: under emulation, loading
Salt and os-brick is most of the work.

A request is JSON from one pipe: ``{"high": …}``, states to apply as from an SLS, or
``{"fun": …, "args": …}``, a function of an execution module. Both go through Salt's loader and
state compiler, as in ``salt-call --local``; the answer goes to another pipe.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import uuid
from typing import Any

import salt.config
import salt.loader
import salt.state


def main(config: str, requests: str, answers: str) -> None:
    """Answer until the guest is switched off."""
    opts = salt.config.minion_config(config)
    opts["grains"] = salt.loader.grains(opts)
    state = salt.state.State(opts, initial_pillar={"lab": True})
    _say(answers, {"return": "ready"})
    while True:
        with open(requests, encoding="utf-8") as file:
            request = json.load(file)
        try:
            if "high" in request:
                # Each is a run of its own: facts that states keep are not used in the next.
                state.instance_id = str(uuid.uuid4())
                answer = {"return": state.call_high(request["high"])}
            else:
                answer = {"return": state.functions[request["fun"]](*request["args"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        _say(answers, answer)


def _say(path: str, answer: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(answer, file, default=str)


if __name__ == "__main__":
    os.umask(0o022)
    main(*sys.argv[1:])
