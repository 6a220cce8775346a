"""The measurements. Each function returns figures for the JSON, lines for the table, and
targets.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_cluster import HERE, MINION, Cluster
from figures import HEADING, Target, line, ratio, spread

#: As ``benchtimers`` calls the engine's calls of the controller.
SOCKET = "socket: the engine's calls"
UTILS = HERE.parents[1] / "_utils"


@dataclass
class Found:
    """The findings of one measurement.

    :ivar data: for the JSON.
    :ivar lines: rows of the table.
    :ivar targets: the targets.
    """

    data: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)


def bus(cluster: Cluster, times: int) -> Found:
    """Measure round trips: the project's and Salt's bare ones in turn, in one job and in one
    ``salt-call``.
    """
    found = Found()
    took = cluster.job("bench.trips", times)
    code, output = cluster.run(f"salt-call -c {MINION} --out=json bench.trips {max(times // 4, 3)}")
    if code:
        raise RuntimeError(output)
    for where, seconds in (("job", took), ("salt-call", json.loads(output[output.index("{") :])["local"])):
        data: dict[str, Any] = {kind: spread(values) for kind, values in seconds.items()}
        data["ratio"] = ratio(seconds["storage"], seconds["bare"])
        data["ratio_to_kept_channel"] = ratio(seconds["storage"], seconds["bare_kept_channel"])
        found.data[where] = data
        found.lines += [
            HEADING,
            line(f"in a {where}: request `inventory`, signed, journalled, encrypted", data["storage"], scale=1000, unit="ms"),
            line("  bare event and LocalClient publish, no work", data["bare"], scale=1000, unit="ms"),
            line("  the same, the publishing channel kept open", data["bare_kept_channel"], scale=1000, unit="ms"),
            _ratios("ratio to the bare trip", data["ratio"]),
            _ratios("ratio to the bare trip with the channel kept", data["ratio_to_kept_channel"]),
        ]
    found.targets.append(Target("(a) bus round trip / bare event round trip, medians", found.data["job"]["ratio"]["of_medians"], 1.1))
    return found


def life_cycle(cluster: Cluster, rounds: int, volumes: int) -> Found:
    """Measure create, connect, disconnect and delete of volumes through states, against bare
    cinderlib and os-brick, in turn.
    """
    found = Found()
    four = cluster.states("life_four", _life(volumes, ("present", "connected", "disconnected", "absent")))
    three = cluster.states("life_three", _life(volumes, ("connected", "disconnected", "absent")))
    kinds = (
        *("states_whole", "states_three_whole", "states_work", "bare_whole", "bare_work"),
        *("states_cpu", "states_three_cpu", "bare_cpu", "brick_import", "requests", "requests_three"),
    )
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    steps: list[dict[str, float]] = []
    for number in range(-1, rounds):
        before = cluster.requests(), cluster.cpu()
        whole = cluster.must_run(f"salt -c etc {MINION} state.apply {four}")
        middle = cluster.requests(), cluster.cpu()
        whole_three = cluster.must_run(f"salt -c etc {MINION} state.apply {three}")
        after = cluster.requests(), cluster.cpu()
        bare_whole, bare = _bare(cluster, volumes)
        bare_cpu = cluster.cpu() - after[1]
        warm = cluster.job("bench.apply", four)
        _require_changes(warm["states"])
        if number < 0:
            # The first of each writes bytecode and fills caches.
            continue
        steps.append(bare["steps"])
        row = (
            *(whole, whole_three, warm["apply_seconds"], bare_whole, bare["work"]),
            *(middle[1] - before[1], after[1] - middle[1], bare_cpu, warm["import_seconds"], middle[0] - before[0], after[0] - middle[0]),
        )
        for kind, value in zip(kinds, row, strict=True):
            took[kind].append(value)
    found.data = {
        "volumes": volumes,
        **{kind: spread(values) for kind, values in took.items()},
        "ratio_whole": ratio(took["states_whole"], took["bare_whole"]),
        "ratio_three_whole": ratio(took["states_three_whole"], took["bare_whole"]),
        "ratio_cpu": ratio(took["states_cpu"], took["bare_cpu"]),
        "ratio_three_cpu": ratio(took["states_three_cpu"], took["bare_cpu"]),
        "ratio_work": ratio(took["states_work"], took["bare_work"]),
        "bare_steps": {name: spread([s[name] for s in steps]) for name in steps[0]},
    }
    data = found.data
    found.lines = [
        HEADING,
        line(f"salt {MINION} state.apply: {volumes} x present, connected, disconnected, absent", data["states_whole"]),
        line(f"  {volumes} x connected (creates), disconnected, absent", data["states_three_whole"]),
        line("bare cinderlib and os-brick, one script", data["bare_whole"]),
        _ratios("ratio of whole commands", data["ratio_whole"]),
        _ratios("ratio with connected creating the volume", data["ratio_three_whole"]),
        line("CPU time of all processes: four states a volume", data["states_cpu"]),
        line("  three states a volume", data["states_three_cpu"]),
        line("  bare", data["bare_cpu"]),
        _ratios("ratio of CPU time", data["ratio_cpu"]),
        _ratios("ratio of CPU time, three states", data["ratio_three_cpu"]),
        line("without start and imports: state.apply within the job", data["states_work"]),
        line("  bare: the four steps", data["bare_work"]),
        _ratios("ratio without start and imports", data["ratio_work"]),
        line("import of os-brick in the job", data["brick_import"]),
        *(line(f"bare: {name}", value) for name, value in data["bare_steps"].items()),
        f"  requests to the engine: {data['requests']['median']:.0f}, {data['requests_three']['median']:.0f} with three states",
    ]
    found.targets.append(
        Target(f"(b) {volumes} volumes through states / bare, whole commands, medians", data["ratio_whole"]["of_medians"], 2.5)
    )
    return found


def breakdown(cluster: Cluster, volumes: int) -> Found:
    """Tell where the time of a life cycle goes, from timers in the job and in the engine of a
    cluster made with ``timed``.
    """
    found = Found()
    four = cluster.states("life_four", _life(volumes, ("present", "connected", "disconnected", "absent")))
    cluster.job("bench.apply", four)
    began = time.time()
    start = time.perf_counter()
    result = cluster.job("bench.apply", four, timers=str(cluster.timers["minion"]))
    job = time.perf_counter() - start
    ended = time.time()
    _require_changes(result["states"])
    minion, engine, controller = (_sums(cluster.timers[who], began, ended) for who in ("minion", "engine", "controller"))
    within = result["apply_seconds"] + result["import_seconds"]
    seconds = {label: round(own, 4) for label, (own, _calls) in minion.items()}
    seconds["salt: the rest of state.apply (pillar, loader, return)"] = round(within - sum(own for own, _ in minion.values()), 4)
    seconds["salt: publish, fork and return of the job"] = round(job - within, 4)
    serving = {label: round(own, 4) for label, (own, _calls) in (engine | controller).items()}
    # The engine's calls wait for what the controller does.
    serving[SOCKET] = round(serving.get(SOCKET, 0.0) - sum(own for own, _calls in controller.values()), 4)
    calls = {label: count for label, (_own, count) in (minion | engine | controller).items()}
    waited = seconds.get("bus: wait for the controller", 0.0)
    found.data = {
        "volumes": volumes,
        "job_seconds": round(job, 4),
        "minion_seconds": seconds,
        "engine_seconds": serving,
        "calls": calls,
        "transport_seconds": round(waited - sum(serving.values()), 4),
    }
    found.lines = [f"  one job: {job:.2f} s, of which"]
    found.lines += [_part(label, own, calls.get(label)) for label, own in sorted(seconds.items(), key=lambda item: -item[1])]
    found.lines.append(f"  the wait for the controller, {waited:.2f} s, is")
    parts = {**serving, "transport: Salt's event bus, publish and back": found.data["transport_seconds"]}
    found.lines += [_part(label, own, calls.get(label)) for label, own in sorted(parts.items(), key=lambda item: -item[1])]
    return found


def unchanged(cluster: Cluster, counts: Iterable[int], rounds: int) -> Found:
    """Measure the second, unchanged ``state.apply`` of more and more volumes: time and
    requests.
    """
    found = Found()
    counts = sorted(counts)
    medians: dict[str, list[float]] = {"mounted": [], "connected": [], "nothing": []}
    most = children = 0
    found.lines.append(HEADING)
    for count in counts:
        names = [f"kept-{number}" for number in range(count)]
        slses = {
            "mounted": cluster.states(
                f"mounted_{count}", {n: _state("mounted", n, size=1, mount=str(cluster.root / "mnt" / n)) for n in names}
            ),
            "connected": cluster.states(f"connected_{count}", {n: _state("connected", n, size=1) for n in names}),
            # Salt's own part: as many states that do nothing.
            "nothing": cluster.states(f"nothing_{count}", {n: {"test.succeed_without_changes": []} for n in names}),
        }
        start = time.perf_counter()
        first = cluster.job("bench.children_of", slses["mounted"])["children"]
        data: dict[str, Any] = {"first_apply_seconds": round(time.perf_counter() - start, 3), "first_children": first}
        if not first:
            raise RuntimeError("the first run, which attaches volumes, is said to start no process for os-brick: the count is wrong")
        jobs: dict[str, list[float]] = {kind: [] for kind in slses}
        functions: dict[str, list[float]] = {kind: [] for kind in slses}
        requests: dict[str, list[int]] = {kind: [] for kind in slses}
        for _ in range(rounds):
            for kind, sls in slses.items():
                before = cluster.requests()
                start = time.perf_counter()
                states = cluster.job("state.apply", sls)
                jobs[kind].append(time.perf_counter() - start)
                requests[kind].append(cluster.requests() - before)
                if len(states) != count or any(state["changes"] or not state["result"] for state in states.values()):
                    raise RuntimeError(f"the second run of {sls} changed something or failed")
                functions[kind].append(sum(state["duration"] for state in states.values()) / 1000)
        # Beside the measured rounds, since the count is no part of the project.
        data["children"] = {kind: cluster.job("bench.children_of", sls)["children"] for kind, sls in slses.items()}
        children = max(children, *data["children"].values())
        for kind in slses:
            data[kind] = {"job": spread(jobs[kind]), "states": spread(functions[kind]), "requests": max(requests[kind])}
            medians[kind].append(data[kind]["job"]["median"])
            found.lines.append(line(f"{count:>4} x {kind}: job, {max(requests[kind])} requests", data[kind]["job"]))
            found.lines.append(line("       sum of the states' own durations", data[kind]["states"]))
        most = max(most, *(max(requests[kind]) for kind in ("mounted", "connected")))
        found.data[str(count)] = data
    if len(counts) > 1:
        found.data["ms_per_volume"] = {kind: round(1000 * _slope(counts, values), 2) for kind, values in medians.items()}
        shown = ", ".join(f"{kind} {value:.1f}" for kind, value in found.data["ms_per_volume"].items())
        found.lines.append(f"  growth of the job, ms per volume (least squares over the medians): {shown}")
    found.targets.append(Target("(c) requests of an unchanged state run, most of all counts", most, 1))
    found.targets.append(Target("(c) processes for os-brick of an unchanged state run, most of all counts", children, 0))
    return found


def memory(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return the memory of the engine's process and of the controller's."""
    controller = cluster.controller_pid()
    engine = int(Path(f"/proc/{controller}/stat").read_text().rpartition(")")[2].split()[1])
    return {"engine": _memory(engine), "controller": _memory(controller)}


def _memory(pid: int) -> dict[str, Any]:
    """Return a process's memory in MB: RSS; PSS, where shared pages count in part; USS, the pages
    of its own alone.
    """
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {words[0].rstrip(":"): int(words[1]) for words in map(str.split, text.splitlines()[1:])}
    own = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"rss": round(kib["Rss"] / 1024, 1), "pss": round(kib["Pss"] / 1024, 1), "uss": round(own / 1024, 1), "process": pid}


def engine_memory(taken: dict[str, dict[str, dict[str, Any]]]) -> Found:
    """Return the answers of :func:`memory` at several moments as a measurement."""
    found = Found(data=taken)
    found.lines = [
        f"  {f'{who}, {when}':<58} RSS {m['rss']:>7.1f}  PSS {m['pss']:>7.1f}  USS {m['uss']:>7.1f} MB"
        for when, both in taken.items()
        for who, m in both.items()
    ]
    # Shared pages count twice: the engine is forked from the master.
    most = max(sum(m["rss"] for m in both.values()) for both in taken.values())
    found.targets.append(Target("(d) memory of engine and controller, largest sum of RSS", round(most, 1), 250, " MB"))
    return found


def socket_trips(cluster: Cluster, times: int) -> Found:
    """Measure the way through the controller's socket: of a call that does nothing, on a connection
    that is kept, as the engine's; the same with a connection of its own, as the runner's; and of a
    call that reads the catalog.
    """
    took = _socket(cluster, times)
    found = Found(data={kind: spread(values) for kind, values in took.items()})
    labels = {
        "kept": "a call that does nothing, connection kept",
        "own": "the same, with a connection of its own",
        "inventory": "the operation `inventory`, connection kept",
    }
    found.lines = [HEADING, *(line(labels[kind], found.data[kind], scale=1000, unit="ms") for kind in took)]
    found.targets.append(Target("(g) way through the socket, median", 1000 * found.data["kept"]["median"], 2.0, " ms"))
    return found


def flood(cluster: Cluster, times: int, events: int) -> Found:
    """Measure the effect of a flood on the bus, which the engine has to look at, on the controller;
    and that of a driver at work on the engine's answers and on the controller's.
    """
    quiet = _socket(cluster, times)["inventory"]
    with _in_background(cluster, "bench.flood", events) as flooded:
        loud = _socket(cluster, times)["inventory"]
    data: dict[str, Any] = {"events": events, "quiet": spread(quiet), "flooded": spread(loud), "ratio": ratio(loud, quiet)}
    trips = {"idle": cluster.job("bench.trips", times // 6)}
    work = cluster.root / "work"
    work.touch()
    with _in_background(cluster, "bench.work", str(work)) as worked:
        try:
            trips["working"] = cluster.job("bench.trips", times // 6)
            busy = _socket(cluster, times)["inventory"]
        finally:
            work.unlink()
    data |= {when: {kind: spread(values) for kind, values in kinds.items()} for when, kinds in trips.items()}
    data |= {f"{when}_ratio": ratio(kinds["storage"], kinds["bare"]) for when, kinds in trips.items()}
    data |= {"volumes_worked": worked[0], "inventory_working": spread(busy), "inventory_working_ratio": ratio(busy, quiet)}
    data["events_per_second"] = round(events / flooded[0], 1)
    found = Found(data=data)
    found.lines = [
        HEADING,
        line("`inventory` at the socket, nothing else on the bus", data["quiet"], scale=1000, unit="ms"),
        line(f"  during {events} events that are no requests", data["flooded"], scale=1000, unit="ms"),
        _ratios("ratio flooded / quiet", data["ratio"]),
        line("  while the driver creates and deletes all the time", data["inventory_working"], scale=1000, unit="ms"),
        _ratios("ratio working / quiet", data["inventory_working_ratio"]),
    ]
    for when in trips:
        found.lines += [
            line(f"the engine's answer over the bus, driver {when}", data[when]["storage"], scale=1000, unit="ms"),
            line("  a bare trip, in turn with it", data[when]["bare"], scale=1000, unit="ms"),
            _ratios("ratio to the bare trip", data[f"{when}_ratio"]),
        ]
    return found


@contextlib.contextmanager
def _in_background(cluster: Cluster, function: str, *args: Any) -> Iterator[list[float]]:
    """Have the minion run a function meanwhile; the list has its answer afterwards."""
    answers: list[float] = []
    thread = threading.Thread(target=lambda: answers.append(cluster.job(function, *args)), daemon=True)
    thread.start()
    yield answers
    thread.join()


def _socket(cluster: Cluster, times: int) -> dict[str, list[float]]:
    code, output = cluster.run(f"env PYTHONPATH={UTILS} {sys.executable} {HERE / 'socket_trips.py'} {cluster.socket} {MINION} {times}")
    if code:
        raise RuntimeError(output)
    answer: dict[str, list[float]] = json.loads(output[output.index("{") :])
    return answer


def runner(cluster: Cluster, rounds: int) -> Found:
    """Measure the runner, started cold, against the warm engine over the bus."""
    found = Found()
    commands = {
        "create": "storage.create cold owner=db1 size=1",
        "volumes": "storage.volumes",
        "delete": "storage.delete cold owner=db1",
        "nothing (test.arg)": "test.arg",
    }
    cold: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    warm: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            before = _waited_for()
            cold[name].append(cluster.must_run(f"salt-run -c etc {command}"))
            cpu[name].append(_waited_for() - before)
        for name, values in cluster.job("bench.operations", 5).items():
            warm.setdefault(name, []).extend(values)
    found.data = {"runner_cold": {k: spread(v) for k, v in cold.items()}, "runner_cpu": {k: spread(v) for k, v in cpu.items()}}
    found.data |= {"engine_warm": {k: spread(v) for k, v in warm.items()}}
    found.lines = [
        HEADING,
        *(line(f"salt-run {name}, whole command", value) for name, value in found.data["runner_cold"].items()),
        *(line(f"salt-run {name}, its CPU time", value) for name, value in found.data["runner_cpu"].items()),
        *(line(f"engine over the bus: {name}", value, scale=1000, unit="ms") for name, value in found.data["engine_warm"].items()),
    ]
    values = found.data["runner_cold"]
    share = values["create"]["median"] / values["nothing (test.arg)"]["median"]
    found.data["ratio_create"] = ratio(cold["create"], cold["nothing (test.arg)"])
    found.lines.append(_ratios("ratio of salt-run create to salt-run of nothing", found.data["ratio_create"]))
    found.data["ratio_create_cpu"] = ratio(cpu["create"], cpu["nothing (test.arg)"])
    found.lines.append(_ratios("the same of their CPU time", found.data["ratio_create_cpu"]))
    found.targets.append(Target("(e) salt-run storage.create / salt-run of nothing, medians", round(share, 3), 1.2))
    return found


# Within.


def _waited_for() -> float:
    """Return the CPU seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _life(volumes: int, functions: tuple[str, ...]) -> dict[str, Any]:
    """Return states a step at a time: all are created, then all connected, and so on."""
    states = {}
    for function in functions:
        for number in range(volumes):
            size = {"size": 1} if function == functions[0] else {}
            states[f"{function}-{number}"] = _state(function, f"life-{number}", **size)
    return states


def _state(function: str, name: str, **parameters: Any) -> dict[str, Any]:
    return {f"storage_volume.{function}": [{key: value} for key, value in {"name": name, **parameters}.items()]}


def _bare(cluster: Cluster, volumes: int) -> tuple[float, dict[str, Any]]:
    """Run the bare script; return seconds of the whole command and the script's answer."""
    folder = cluster.root / "bare"
    folder.mkdir(exist_ok=True)
    start = time.perf_counter()
    code, output = cluster.run(f"env PYTHONPATH={UTILS} {sys.executable} {HERE / 'bare_lifecycle.py'} {folder} {volumes}")
    took = time.perf_counter() - start
    if code:
        raise RuntimeError(f"the bare script failed:\n{output}")
    return took, json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def _require_changes(states: dict[str, Any]) -> None:
    for state in states.values():
        if not state["result"] or not state["changes"]:
            raise RuntimeError(f"{state['__id__']} did not do what it should: {state['comment']}")


def _sums(path: Path, began: float, ended: float) -> dict[str, tuple[float, int]]:
    """Return exclusive seconds and calls by label, of the calls that ended between two moments."""
    seconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for text in path.read_text().splitlines():
        label, at, own, _whole = json.loads(text)
        if began <= at <= ended:
            seconds[label] += own
            calls[label] += 1
    return {label: (seconds[label], calls[label]) for label in seconds}


def _slope(x: list[int], y: list[float]) -> float:
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / sum((a - middle_x) ** 2 for a in x)


def _ratios(label: str, found: dict[str, Any]) -> str:
    low, high = found["paired_quartiles"]
    return (
        f"  {label + ':':<58} {found['of_medians']:.2f} of medians, {found['of_minima']:.2f} of minima, "
        f"{found['paired_median']:.2f} paired ({low:.2f} to {high:.2f})"
    )


def _part(label: str, seconds: float, calls: int | None) -> str:
    return f"    {label:<56}{seconds:>9.3f} s{f'{calls:>7} calls, {1000 * seconds / calls:8.2f} ms each' if calls else ''}"


def environment() -> dict[str, Any]:
    """Return the conditions of the figures."""
    import importlib.metadata
    import platform

    packages = ("salt", "cinder", "cinderlib", "os-brick", "SQLAlchemy", "tooz", "cryptography")
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_at_start": [round(value, 2) for value in os.getloadavg()],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **{package: importlib.metadata.version(package) for package in packages},
    }
