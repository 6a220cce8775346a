"""A failed operation of the runner is a failure for everything in Salt that calls it, with real
daemons.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import salt.client
import salt.config
import salt.loader
import salt.netapi
import salt.runner
import salt.utils.event
from salt.states import saltmod

from tests.integration.cluster import Cluster, state
from tests.integration.cluster import cluster as make_cluster

pytestmark = [pytest.mark.root, pytest.mark.slow]

#: Every caller gets a refusal of this: the host lives, so its volume is not taken from it.
REFUSED = {"name": "data", "owner": "alpha", "host": "alpha"}
DISCONNECT = {"salt.runner": [{"name": "storage.disconnect"}, {"kwarg": REFUSED}]}


@pytest.fixture(scope="module")
def cluster(salt_factories: Any) -> Iterator[Cluster]:
    """Yield a cluster with a reactor, salt-api's clients and a schedule, in which a volume of
    alpha is connected.
    """
    options = {
        "reactor": [{"test/dead": ["salt://react.sls"]}],
        "external_auth": {"auto": {"tester": ["@runner"]}},
        "netapi_enable_clients": ["runner"],
        "schedule": {"disconnect": {"function": "storage.disconnect", "kwargs": REFUSED, "seconds": 3}},
    }
    with make_cluster(salt_factories, consumer={"answer_timeout": 60}, master_options=options) as found:
        [connected] = found.apply("alpha", state("connected", "data", size=1)).values()
        assert connected["result"] is True, connected
        yield found
        removed = found.apply("alpha", state("disconnected", "data"))
        assert all(one["result"] for one in removed.values()), removed


def is_refusal(answer: Any) -> bool:
    return bool(answer["code"] == "FAILED_PRECONDITION" and answer["error"].startswith("FAILED_PRECONDITION: "))


@contextmanager
def events(cluster: Cluster) -> Iterator[Callable[[str, Callable[[Any], bool]], Any]]:
    """Yield a function that returns the data of the next event with a tag for which a condition
    holds.
    """
    opts = dict(cluster.master.config)
    with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as bus:

        def wait_for(tag: str, holds: Callable[[Any], bool]) -> Any:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                event = bus.get_event(wait=5, tag=tag, match_type="startswith", full=True)
                if event is not None and holds(event["data"]):
                    return event["data"]
            raise AssertionError(f"no such event {tag}")

        yield wait_for


def orchestrate(cluster: Cluster, name: str, states: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Run an orchestration with ``salt-run`` and return its exit code and the states' results by
    id.
    """
    (cluster.root / "states" / f"{name}.sls").write_text("#!json\n" + json.dumps(states))
    ran = cluster.master.salt_run_cli(timeout=120).run("state.orchestrate", name)
    [found] = ran.data["data"].values()
    return ran.returncode, {entry["__id__"]: entry for entry in found.values()}


def test_an_orchestration_stops_at_a_refused_fencing(cluster: Cluster) -> None:
    states = {
        "cut off": DISCONNECT,
        "give": {
            "salt.runner": [
                {"name": "storage.give"},
                {"kwarg": {"name": "data", "owner": "alpha", "new_owner": "beta"}},
                {"require": [{"salt": "cut off"}]},
            ]
        },
        "start on the other host": {"test.succeed_with_changes": [{"require": [{"salt": "give"}]}]},
    }
    code, found = orchestrate(cluster, "failover", states)
    assert code == 1
    assert {key: entry["result"] for key, entry in found.items()} == dict.fromkeys(states, False), found
    assert is_refusal(found["cut off"]["changes"]["return"])
    assert "requisite" in found["start on the other host"]["comment"]


def test_an_orchestration_goes_on_after_a_success(cluster: Cluster) -> None:
    look = {"salt.runner": [{"name": "storage.volume"}, {"kwarg": {"name": "data", "owner": "alpha"}}]}
    then = {"test.succeed_with_changes": [{"require": [{"salt": "look"}]}]}
    code, found = orchestrate(cluster, "look", {"look": look, "then": then})
    assert (code, [entry["result"] for entry in found.values()]) == (0, [True, True]), found


def test_runners_in_parallel(cluster: Cluster) -> None:
    # Twice, since the name of a volume would be taken for that of the runner.
    good = [{"name": "storage.volume"}, {"kwarg": {"kwarg": {"name": "data", "owner": "alpha"}}}]
    bad = [{"name": "storage.disconnect"}, {"kwarg": {"kwarg": dict(REFUSED)}}]
    code, found = orchestrate(cluster, "parallel", {"both": {"salt.parallel_runners": [{"runners": {"good": good, "bad": bad}}]}})
    assert (code, found["both"]["result"]) == (1, False), found
    # No runner works in the threads of this state
    # (https://github.com/saltstack/salt/issues/66022), so all else of it is tried in one.
    opts = {**salt.config.master_config(cluster.master.config["conf_file"]), "file_client": "local"}
    modules = salt.loader.minion_mods(opts)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("__opts__", opts), ("__salt__", modules), ("__env__", "base")):
            patch.setattr(saltmod, name, value, raising=False)
        patch.setattr(saltmod, "_parallel_map", lambda function, inputs: list(map(function, inputs)))
        done = saltmod.parallel_runners("both", {"one": list(good), "other": list(good)})
        failed = saltmod.parallel_runners("both", {"good": list(good), "bad": list(bad)})
    assert done["result"] is True, done
    assert (failed["result"], failed["comment"]) == (False, "Runner bad failed."), failed
    assert is_refusal(failed["changes"]["ret"]["bad"])


def test_salt_run_and_the_job_cache(cluster: Cluster) -> None:
    with events(cluster) as wait_for:
        ran = cluster.master.salt_run_cli(timeout=120).run("storage.disconnect", **REFUSED)
        told = wait_for("salt/run/", lambda data: data.get("fun") == "runner.storage.disconnect" and "success" in data)
    assert ran.returncode == 1
    assert is_refusal(ran.data)
    assert told["success"] is False
    [entry] = cluster.run("jobs.list_job", told["jid"])["Result"].values()
    assert entry["return"]["success"] is False
    assert is_refusal(entry["return"]["return"])


def test_a_reactor_reports_its_failure_and_no_other(cluster: Cluster) -> None:
    """All that a reactor calls goes through one client, whose context it keeps."""
    states = {"cut off": {"runner.storage.disconnect": [{"args": REFUSED}]}, "look": {"runner.storage.volumes": [{"args": {}}]}}
    (cluster.root / "states" / "react.sls").write_text("#!json\n" + json.dumps(states))
    opts = dict(cluster.master.config)

    def ended(function: str) -> Callable[[Any], bool]:
        return lambda data: data.get("fun") == function and data.get("user") == "Reactor" and "success" in data

    with events(cluster) as wait_for, salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts) as bus:
        bus.fire_event({}, "test/dead")
        failed = wait_for("salt/run/", ended("runner.storage.disconnect"))
        assert failed["success"] is False
        assert is_refusal(failed["return"])
        (cluster.root / "states" / "react.sls").write_text("#!json\n" + json.dumps({"look": states["look"]}))
        bus.fire_event({}, "test/dead")
        assert wait_for("salt/run/", ended("runner.storage.volumes"))["success"] is True


def test_one_failure_leaves_the_next_call_of_the_same_client_alone(cluster: Cluster) -> None:
    with salt.runner.RunnerClient(salt.config.master_config(cluster.master.config["conf_file"])) as runner:
        failed = runner.cmd("storage.disconnect", kwarg=dict(REFUSED), print_event=False, full_return=True)
        assert failed["success"] is False
        assert is_refusal(failed["return"])
        assert runner.cmd("test.arg", ["fine"], print_event=False, full_return=True)["success"] is True
        assert runner.cmd("storage.volumes", print_event=False, full_return=True)["success"] is True


def test_salt_api(cluster: Cluster) -> None:
    """The client through which salt-api runs what a request asks for."""
    api = salt.netapi.NetapiClient(salt.config.api_config(cluster.master.config["conf_file"]))
    low = {"client": "runner", "fun": "storage.disconnect", "username": "tester", "password": "any", "eauth": "auto"}
    answer = api.run({**low, "kwarg": dict(REFUSED)})
    assert is_refusal(answer)
    assert answer["success"] is False
    full = api.run({**low, "kwarg": dict(REFUSED), "full_return": True})
    assert full["data"]["success"] is False
    assert is_refusal(full["data"]["return"])


def test_a_job_of_a_minion_on_the_masters_host(cluster: Cluster) -> None:
    config = Path(cluster.master.config["conf_file"])
    shutil.copy(config, Path(cluster.minions["alpha"].config["conf_file"]).with_name("master"))
    with salt.client.LocalClient(mopts=dict(cluster.master.config)) as local:
        found = local.cmd("alpha", "saltutil.runner", ["storage.disconnect"], kwarg={"kwarg": REFUSED}, timeout=60, full_return=True)
    assert is_refusal(found["alpha"]["ret"]), found
    assert found["alpha"]["retcode"] == 1, found


def test_a_schedule_of_the_master(cluster: Cluster) -> None:
    with events(cluster) as wait_for:
        told = wait_for("__schedule_return", lambda data: data.get("fun") == "storage.disconnect")
    assert (told["success"], told["retcode"]) == (False, 254), told
    assert "FAILED_PRECONDITION: " in cluster.log("master")
