"""Each host has a name and initiators of its own at the array (B7, B8)."""

from __future__ import annotations

import threading

import pytest

from saltstorage.controller.operations import identities
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service
from saltstorage.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from saltstorage.model import Connection
from tests.unit.controller.masking_driver import MaskingDriver

pytestmark = pytest.mark.slow

IQN = "iqn.2024-01.org.example:web1"
WWPN = "500143802426bad1"
IDS = [
    *("db1.prod.example", "db1.test.example", "db1", "DB1", "db1-prod", "db1.evil.com", "db_1", "db-1"),
    *("é", "💾", "a" * 200, "a" * 201, "web" * 20 + ".a", "web" * 20 + ".b"),
]


@pytest.fixture
def opts(opts):
    opts["storage"]["backends"]["local"]["volume_driver"] = f"{MaskingDriver.__module__}.{MaskingDriver.__name__}"
    return opts


def connect(service, minion, name="data", **initiators):
    connector = {"host": minion, "ip": "192.0.2.1", **initiators}
    return service.execute("connect", {"name": name, "connector": connector, "create": {"size": 1}}, minion)


def test_b7_names_at_the_array_are_short_plain_and_different():
    names = [identities.host_name(minion) for minion in IDS]
    assert len(set(names)) == len(IDS)
    for name in names:
        assert len(name) <= 31
        assert name.isascii()
        assert name.replace("-", "").isalnum()
        assert "." not in name


def test_b7_drivers_that_shorten_names_keep_them_apart():
    """The real code of these drivers, with the names that they get, and with the ids."""
    from types import SimpleNamespace

    from cinder.volume.drivers.dell_emc.powermax.utils import PowerMaxUtils
    from cinder.volume.drivers.hpe.hpe_3par_common import HPE3PARCommon

    configuration = SimpleNamespace(unique_fqdn_network=True)
    shorten = {
        "3par": lambda host: HPE3PARCommon._safe_hostname(None, {"host": host}, configuration),
        "powermax": PowerMaxUtils.get_host_short_name_from_fqn,
    }
    two = ("db1.prod.example", "db1.test.example")
    for cut in shorten.values():
        assert len({cut(minion) for minion in two}) == 1, "this driver is why names are made"
        assert len({cut(identities.host_name(minion)) for minion in IDS}) == len(IDS)


def test_b7_the_driver_gets_that_name_and_keeps_it(service, monkeypatch):
    seen = []
    real = MaskingDriver.initialize_connection
    monkeypatch.setattr(MaskingDriver, "initialize_connection", lambda self, v, c: (seen.append(c["host"]), real(self, v, c))[1])
    connect(service, "db1.prod.example", initiator=IQN)
    assert seen == [identities.host_name("db1.prod.example")]


def test_b7_a_connection_that_exists_keeps_the_name_that_the_array_has(service, monkeypatch):
    connect(service, "web1", initiator=IQN)
    [connection] = service.catalog.connections(host="web1")
    service.catalog.update(connection, connector={**connection.connector, "host": "web1"})
    seen = []
    real = MaskingDriver.initialize_connection
    monkeypatch.setattr(MaskingDriver, "initialize_connection", lambda self, v, c: (seen.append(c["host"]), real(self, v, c))[1])
    connect(service, "web1", initiator=IQN)
    assert seen == ["web1"]


@pytest.mark.parametrize(
    ("claim", "mine"),
    [
        ({"initiator": IQN}, {"initiator": IQN.upper().replace("IQN", "iqn")}),
        ({"wwpns": [WWPN]}, {"wwpns": ["500143802426bad9", "50:01:43:80:24:26:BA:D1"]}),
    ],
    ids=["iscsi", "fibre channel"],
)
def test_b8_another_minions_initiator_is_refused_before_the_array_is_asked(service, tmp_path, claim, mine, monkeypatch):
    connect(service, "web1", **claim)
    masks = sorted((tmp_path / "volumes").glob("*"))
    asked = []
    monkeypatch.setattr(MaskingDriver, "create_volume", lambda *args: asked.append("create"))
    for _ in range(2):
        with pytest.raises(PermissionDeniedError) as raised:
            connect(service, "mallory", **mine)
        assert "web1" not in raised.value.message.replace(IQN, "")
        assert "storage.rebind" in raised.value.message
    assert asked == []
    assert sorted((tmp_path / "volumes").glob("*")) == masks
    assert service.catalog.volume("mallory", "data") is None
    # It stays so when the owner has let go of everything.
    service.execute("disconnect", {"name": "data"}, "web1")
    service.execute("delete", {"name": "data"}, "web1")
    with pytest.raises(PermissionDeniedError):
        connect(service, "mallory", **mine)


def test_b8_an_existing_volume_is_not_mapped_either(service):
    connect(service, "web1", initiator=IQN)
    service.execute("create", {"name": "own", "size": 1}, "mallory")
    with pytest.raises(PermissionDeniedError):
        service.execute("connect", {"name": "own", "connector": {"host": "mallory", "initiator": IQN}}, "mallory")
    assert service.catalog.connections(host="mallory") == []


def test_b8_of_two_at_once_one_gets_it(service):
    results = {}

    def claim(minion):
        try:
            service.connections.identities.claim(minion, {"initiator": IQN}, frozenset({"initiator"}))
            results[minion] = "bound"
        except PermissionDeniedError:
            results[minion] = "refused"

    threads = [threading.Thread(target=claim, args=(f"m{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results.values()) == ["bound"] + ["refused"] * 7
    [bound] = service.catalog.initiators()
    assert results[bound.minion] == "bound"


@pytest.mark.parametrize(
    "connector",
    [
        {"initiator": "*"},
        {"initiator": "ALL"},
        {"initiator": "iqn.a:b,iqn.2024-01.x:alpha"},
        {"initiator": [IQN]},
        {"initiator": 7},
        {"wwpns": WWPN},
        {"wwpns": [WWPN, "5001"]},
        {"wwpns": [f"{WWPN} {WWPN}"]},
        {"nqn": "nqn"},
        {"nvme_hostid": "x"},
        {"sdc_guid": "../etc"},
    ],
    ids=str,
)
def test_b8_values_have_the_form_of_their_kind(service, connector):
    with pytest.raises(InvalidArgumentError):
        connect(service, "web1", **{"initiator": IQN, **connector})
    assert service.catalog.volumes() == []


def test_b8_only_the_initiators_of_the_backends_protocol_count(opts):
    """Two minions on one machine use volumes of its files."""
    opts["storage"]["backends"]["local"]["volume_driver"] = "saltstorage.drivers.file.FileDriver"
    service = Service(opts)
    try:
        for minion in ("web1", "web2"):
            connect(service, minion, initiator=IQN, wwpns=[WWPN])
        assert service.catalog.initiators() == []
    finally:
        service.close()


def test_the_administrator_binds_rebinds_and_forgets(service):
    known = service.connections.identities
    bound = known.bind(minion="web1", kind="wwpns", value="50:01:43:80:24:26:BA:D1")
    assert (bound.minion, bound.value) == ("web1", WWPN)
    assert known.bind(minion="web1", kind="wwpns", value=WWPN) == bound
    with pytest.raises(AlreadyExistsError, match="belongs to web1"):
        known.bind(minion="web2", kind="wwpns", value=WWPN)
    connect(service, "web1", wwpns=[WWPN])
    with pytest.raises(FailedPreconditionError, match="connected to data"):
        known.bind(minion="web2", kind="wwpns", value=WWPN, force=True)
    with pytest.raises(FailedPreconditionError):
        known.unbind(kind="wwpns", value=WWPN)
    service.execute("disconnect", {"name": "data"}, "web1")
    assert known.bind(minion="web2", kind="wwpns", value=WWPN, force=True).minion == "web2"
    with pytest.raises(PermissionDeniedError):
        connect(service, "web1", "more", wwpns=[WWPN])
    known.unbind(kind="wwpns", value=WWPN)
    with pytest.raises(NotFoundError):
        known.unbind(kind="wwpns", value=WWPN)
    connect(service, "web1", "more", wwpns=[WWPN])
    for wrong in ({"kind": "ip", "value": "192.0.2.1"}, {"kind": "wwpns", "value": "x"}):
        with pytest.raises(InvalidArgumentError):
            known.bind(minion="web1", **wrong)


def test_connections_of_before_are_bound_at_the_start_and_conflicts_are_found(service, caplog):
    for number, (minion, host) in enumerate([("db1.prod.example", "db1.prod.example"), ("db1.test.example", "db1.test.example")]):
        service.call("create", {"name": "data", "size": 1, "owner": minion}, Caller())
        volume = service.volume(minion, "data")
        connector = {"host": host, "initiator": IQN, "wwpns": [f"500143802426bad{number}"]}
        what = {"owner": minion, "volume": "data", "host": minion, "size": 1, "connector": connector, "created": float(number)}
        service.catalog.add(Connection(id=str(number), volume_id=volume.id, **what))
    service.start()
    bound = {(i.kind, i.value): i.minion for i in service.catalog.initiators()}
    assert bound == {
        ("initiator", IQN): "db1.prod.example",
        ("wwpns", "500143802426bad0"): "db1.prod.example",
        ("wwpns", "500143802426bad1"): "db1.test.example",
    }
    assert "db1.prod.example and db1.test.example use the iSCSI name" in caplog.text
    texts = [finding.text for finding in service.check().findings(kinds="shared_host")]
    assert len(texts) == 2
    assert any("iSCSI name" in text for text in texts)
    assert any("name at the array, db1" in text for text in texts)
