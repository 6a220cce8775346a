"""A mistyped minion does not read as a minion without volumes."""

from __future__ import annotations

import pytest

from saltstorage.errors import NotFoundError
from saltstorage.runner.minions import refuse_unknown
from tests.unit.bus.conftest import master_opts, pairs  # noqa: F401


@pytest.mark.parametrize(
    ("given", "hint"),
    [({"owner": "alhpa"}, "did you mean 'alpha'?"), ({"owner": None, "host": "web*"}, "salt-key"), ({"owner": "ALPHA"}, "salt-key")],
)
def test_a_mistyped_minion_is_named(master_opts, given, hint):  # noqa: F811
    with pytest.raises(NotFoundError) as raised:
        refuse_unknown(master_opts, [], **given)
    assert hint in raised.value.message


@pytest.mark.parametrize("given", [{"owner": "alpha"}, {"owner": "shared"}, {"owner": "a*"}, {"owner": None, "host": "beta"}, {}])
def test_a_minion_may_have_nothing(master_opts, given):  # noqa: F811
    assert refuse_unknown(master_opts, [], **given) == []


def test_what_is_recorded_for_a_former_minion_is_shown(master_opts):  # noqa: F811
    assert refuse_unknown(master_opts, [{"name": "data"}], owner="gone") == [{"name": "data"}]


def test_without_keys_nobody_can_tell(tmp_path):
    opts = {"root_dir": str(tmp_path), "pki_dir": str(tmp_path / "pki"), "cachedir": str(tmp_path / "cache"), "__role": "minion"}
    assert refuse_unknown(opts, [], owner="alpha") == []
