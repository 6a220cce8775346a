"""A minion without a master, in this process: its loader files, over the real file driver."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from saltstorage.flow.flow import Flow
from tests import inprocess

ROOT = Path(__file__).resolve().parents[3]


def load(path, **dunders):
    """Return a loader file, such as ``_states/storage_volume.py``, with Salt's variables set."""
    spec = importlib.util.spec_from_file_location(f"loaded_{Path(path).stem}", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(dunders)
    return module


def ok(answer):
    """Check that a state succeeded, and return its answer."""
    return check_result(answer, True)


def check_result(answer, result):
    """Check the result of a state, and return the state's answer. A failure shows the comment."""
    assert answer["result"] is result, answer
    return answer


class Host:
    """One minion. Several of them share one controller's catalog and backend."""

    def __init__(self, root, minion, metadata_dir, driver="saltstorage.drivers.file.FileDriver", volumes=None, **opts):
        self.root = root
        self.folder = root / minion
        self.mount_point = str(self.folder / "srv")
        self.opts = {
            "id": minion,
            "file_client": "local",
            "storage": {
                "state_dir": str(root / "controller"),
                "metadata_database": f"sqlite:///{metadata_dir}/cinderlib.sqlite",
                "policy": {"*": {"shared": ["*"]}},
                "backends": {
                    "local": {
                        "volume_driver": driver,
                        "file_driver_path": str(volumes or root / "volumes"),
                    }
                },
                "consumer": {
                    "state_dir": str(self.folder / "state"),
                    "device_dir": str(self.folder / "dev"),
                    "fstab": str(self.folder / "fstab"),
                    "lock_path": str(root / "brick"),
                    # The derivation of keys is slow on purpose, and not what is tested.
                    "luks_format_options": ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"],
                },
            },
            **opts,
        }
        self.folder.mkdir()
        self.context = {}
        self.runs = 0

    @property
    def flow(self):
        """A flow as of a new run of states."""
        self.runs += 1
        return Flow(self.opts, self.context, str(self.runs))

    @property
    def module(self):
        """The execution module ``storage``."""
        return load("_modules/storage.py", __opts__=self.opts, __context__=self.context)

    @property
    def service(self):
        """The controller in this process."""
        self.flow.controller.call("inventory", {})
        return self.context[inprocess.KEY]

    def close(self):
        if (kept := self.context.get(inprocess.KEY)) is not None:
            kept.close()

    def state(self, function, name="data", *, test=False, **given):
        """Apply one state in a run of its own.

        ``function`` is one of ``storage_volume``, or ``snapshot_…`` for one of
        ``storage_snapshot``.
        """
        [result] = self.apply((function, {"name": name, **given}), test=test)
        return result

    def mounted(self, **given):
        return self.state("mounted", **{"size": 1, **given})

    def apply(self, *states, test=False):
        """Apply states one after another in one run, and return their results.

        :param states: of each the function, as :meth:`state` takes it, and its parameters with
            ``name``.
        """
        self.runs += 1
        chunks = [self._chunk(number, *state) for number, state in enumerate(states)]
        running = {}
        for chunk in chunks:
            module = load(
                f"_states/{chunk['state']}.py",
                __opts__={**self.opts, "test": test},
                __context__=self.context,
                __instance_id__=str(self.runs),
                __low__=chunk,
                __lowstate__=chunks,
                __running__=running,
            )
            given = {key: value for key, value in chunk.items() if key not in ("state", "fun", "__id__", "order")}
            running["{state}_|-{__id__}_|-{name}_|-{fun}".format(**chunk)] = getattr(module, chunk["fun"])(**given)
        return list(running.values())

    def _chunk(self, number, function, given):
        module = "storage_snapshot" if function.startswith("snapshot_") else "storage_volume"
        function = function.removeprefix("snapshot_")
        if module == "storage_snapshot" and function != "absent":
            given = {"volume": "data", **given}
        if function == "mounted":
            given = {"mount": self.mount_point, "fstype": "xfs", **given}
        return {"state": module, "fun": function, "__id__": f"{number}", "order": number, **given}
