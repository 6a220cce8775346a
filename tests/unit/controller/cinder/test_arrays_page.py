"""The blocks of the page on common arrays are complete and right, by the real drivers' options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from saltstorage import errors
from saltstorage.controller.cinder import options

PAGE = Path(__file__).parents[4] / "docs/how-to/arrays.rst"
_BLOCK = re.compile(r"^(?P<title>\S[^\n]*)\n-+\n.*?code-block:: yaml\n\n(?P<text>(?:    [^\n]*\n)+)", re.MULTILINE | re.DOTALL)
BLOCKS = {match["title"]: yaml.safe_load(match["text"]) for match in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}


def test_the_page_has_the_common_families():
    assert len(BLOCKS) >= 10
    assert len({block["volume_driver"] for block in BLOCKS.values()}) == len(BLOCKS)


@pytest.mark.parametrize("title", BLOCKS)
def test_a_block_is_a_backend_that_its_driver_takes(title):
    block = BLOCKS[title]
    found = options.check("array", block).__name__
    # NetApp's is a stand-in for one of four.
    assert found == block["volume_driver"].rpartition(".")[2].replace("NetAppDriver", "NetAppCmodeISCSIDriver")
    # Every option of it belongs to the driver, which a misspelt one does not.
    with pytest.raises(errors.InvalidArgumentError, match="which its driver does not have"):
        options.check("array", {**block, "san_ipp": "192.0.2.1"})


@pytest.mark.parametrize("title", BLOCKS)
def test_no_password_stands_in_a_block(title):
    secrets = [key for key in BLOCKS[title] if "password" in key or "token" in key]
    assert secrets
    assert all(BLOCKS[title][key].startswith("sdb://") for key in secrets)


@pytest.mark.parametrize("protocol", ["iscsi", "fc", "nvme", "nfs"])
def test_netapps_unified_driver_takes_each_protocol(protocol):
    block = BLOCKS["NetApp ONTAP"]
    assert options.check("array", {**block, "netapp_storage_protocol": protocol}).__name__.startswith("NetAppCmode")


def test_netapps_unified_driver_needs_a_protocol():
    block = {key: value for key, value in BLOCKS["NetApp ONTAP"].items() if key != "netapp_storage_protocol"}
    with pytest.raises(errors.InvalidArgumentError, match="needs the option 'netapp_storage_protocol', one of fc, iscsi, nfs, nvme"):
        options.check("array", block)
