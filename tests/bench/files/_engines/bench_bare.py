"""
Bare round trip, for comparison with the bus: answer each event of a minion with an event on that
minion's bus, and do nothing else.
"""

import salt.channel.client
import salt.client
import salt.utils.event
import salt.utils.network

__virtualname__ = "bench_bare"


def __virtual__():
    return __virtualname__


def start():
    """
    Serve until the master stops.
    """
    local = salt.client.LocalClient(mopts=__opts__)
    uri = f"tcp://{salt.utils.network.ip_bracket(__opts__['interface'])}:{__opts__['ret_port']}"
    kept = salt.channel.client.ReqChannel.factory(__opts__, crypt="clear", master_uri=uri)
    with salt.utils.event.get_event("master", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=True) as bus:
        while True:
            event = bus.get_event(wait=5, tag="bench/bare/request")
            if event is None:
                continue
            data = event.get("data", event)
            job = {"tgt": [data["minion"]], "tgt_type": "list", "fun": "event.fire", "arg": [{}, data["tag"]]}
            if data["channel"] == "new":
                local.pub(job["tgt"], job["fun"], job["arg"], tgt_type="list")
            else:
                # As LocalClient.pub does it, without a new channel for every job.
                load = {"cmd": "publish", **job, "key": local.key, "user": local.salt_user, "ret": "", "jid": ""}
                kept.send(load, timeout=10, tries=1)
