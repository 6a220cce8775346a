"""The choice of a pool, and the guard of its space: real catalog, metadata and locks, and a driver
with pools.
"""

from __future__ import annotations

import threading
import time

import pytest

from saltstorage import errors, model
from saltstorage.controller import desk
from saltstorage.controller.service import Service
from saltstorage.model import Pool, Reservation

HERE = "tests.unit.controller.operations.pool_driver"


@pytest.fixture
def make(opts, tmp_path):
    """Return a function that makes a controller with a backend ``array`` that has pools."""
    made = []

    def make(driver: str = "PoolDriver", *, more: dict | None = None, **storage) -> Service:
        own = {"volume_driver": f"{HERE}.{driver}", "file_driver_path": str(tmp_path / "pools")}
        opts["storage"] |= {"backends": {"array": own, **(more or {})}, "default_backend": "array", "lock_timeout": 60, **storage}
        service = Service(opts)
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


def create(service, name, size, caller="web1", **spec):
    return service.execute("create", {"name": name, "size": size, **spec}, caller)["volume"]


def used(service, backend="array"):
    return service.core.provider(backend).driver.used


def stale(service):
    """Let the next look at the array be a fresh one."""
    service.volumes.placement._looks.clear()


def test_b2_a_volume_goes_to_the_pool_with_most_room(make):
    service = make()
    for number, expected in enumerate(({"a": 60, "b": 0}, {"a": 60, "b": 45}, {"a": 100, "b": 45})):
        create(service, f"v{number}", (60, 45, 40)[number])
        assert {name: used(service)[name] for name in ("a", "b")} == expected
    create(service, "small", 20)
    assert used(service)["thin"] == 20


def test_b3_no_pool_has_room(make):
    service = make()
    with pytest.raises(errors.ResourceExhaustedError) as caught:
        create(service, "large", 101)
    assert "101 GiB are needed, and no pool has room: array, pool a: it has room for 100 GiB (100 of 100 GiB free)" in caught.value.message
    assert "pool thin: it has room for 30 GiB" in caught.value.message
    assert [row["pool"] for row in caught.value.details["pools"]] == ["a", "b", "thin"]
    assert service.catalog.volumes() == []
    assert service.catalog.reservations() == []
    assert set(used(service).values()) == {0}, "the driver was not asked"


def test_reserve_and_over_subscription_count(make, opts):
    service = make()
    service.config.backends["array"].options["reserved_percentage"] = 20
    rows = {row["pool"]: row["room_gib"] for row in desk.call(service, "place", {"size": 1})}
    assert rows == {"a": 80.0, "b": 40.0, "thin": 24.0}
    create(service, "first", 20, "web1")
    stale(service)
    with pytest.raises(errors.ResourceExhaustedError, match="pool a: it has room for 60 GiB"):
        create(service, "second", 61, "web1")


def test_a_type_chooses_pools_and_thick(make):
    types = {"gold": {"pool": ["b*"]}, "none": {"pool": "x*"}, "thick": {"pool": "thin", "extra_specs": {"provisioning:type": "thick"}}}
    service = make(types=types)
    create(service, "one", 10, type="gold")
    assert used(service) == {"a": 0, "b": 10, "thin": 0}
    with pytest.raises(errors.ResourceExhaustedError, match="pool a: type 'none' does not allow this pool"):
        create(service, "two", 1, type="none")
    with pytest.raises(errors.ResourceExhaustedError, match="pool thin: it has room for 10 GiB"):
        create(service, "three", 11, type="thick")


def test_the_policy_chooses_pools(make):
    service = make(policy={"web*": {"pools": ["thin"]}, "*": {}})
    create(service, "one", 10)
    create(service, "two", 10, "db1")
    assert used(service) == {"a": 10, "b": 0, "thin": 10}
    rows = desk.call(service, "place", {"size": 1, "minion": "web1"})
    assert [(row["pool"], row["chosen"], row["reason"]) for row in rows] == [
        ("thin", True, ""),
        ("a", False, "the policy does not allow this pool"),
        ("b", False, "the policy does not allow this pool"),
    ]


def test_a_volume_may_name_its_pool(make):
    service = make(types={"gold": {"pool": ["a", "b"]}})
    create(service, "one", 10, pool="b")
    create(service, "two", 10, pool="[!t]*", type="gold")
    assert used(service) == {"a": 10, "b": 10, "thin": 0}
    again = create(service, "one", 10, pool="a")
    assert again["name"] == "one", "it stays where it is"
    with pytest.raises(errors.ResourceExhaustedError, match="pool a: the volume does not allow this pool"):
        create(service, "three", 1, pool="thin", type="gold")
    rows = desk.call(service, "place", {"size": 1, "pool": "th*"})
    assert [row["pool"] for row in rows if row["chosen"]] == ["thin"]


def test_growth_and_copies_stay_in_their_pool(make):
    service = make(types={"gold": {"pool": "b"}})
    create(service, "one", 20, type="gold")
    stale(service)
    service.execute("extend", {"name": "one", "size": 25}, "web1")
    assert used(service)["b"] == 25
    with pytest.raises(errors.ResourceExhaustedError, match=r"60 GiB are needed.*pool b: it has room for 25 GiB"):
        service.execute("extend", {"name": "one", "size": 85}, "web1")
    assert service.catalog.volume("web1", "one").state == model.AVAILABLE
    create(service, "copy", 25, source={"volume": "one"})
    assert used(service)["b"] == 50
    stale(service)
    with pytest.raises(errors.ResourceExhaustedError, match="the volume stays in pool 'b'"):
        create(service, "again", 25, source={"volume": "one"})


def test_volumes_count_where_a_driver_reports_nothing_of_them(make, tmp_path):
    # Other tests' volumes are in the same metadata, under the names of their backends.
    service = make(more={"silent": {"volume_driver": f"{HERE}.SilentDriver", "file_driver_path": str(tmp_path / "silent")}})
    create(service, "one", 20, backend="silent")
    stale(service)
    service.catalog.apply(remove=service.catalog.reservations())
    with pytest.raises(errors.ResourceExhaustedError, match="it has room for 10 GiB"):
        create(service, "two", 11, backend="silent")


@pytest.mark.parametrize(
    ("total", "free", "provisioned", "reserved", "ratio"), [(100, 90, 70, 0, 1), (100, 40, 150, 10, 2), (100, 15, 20, 20, 1)]
)
@pytest.mark.parametrize("thin", [True, False])
def test_room_is_never_more_than_cinders(total, free, provisioned, reserved, ratio, thin):
    from cinder.scheduler import sched_utils

    args = (total, free, provisioned, ratio > 1, ratio, reserved, thin)
    cinders = sched_utils.calculate_virtual_free_capacity(*args)
    pool = Pool(
        name="x",
        total_gib=total,
        free_gib=free,
        provisioned_gib=provisioned,
        reserved_percentage=reserved,
        max_over_subscription_ratio=ratio,
        thin=ratio > 1,
    )
    room = pool.room(thick=not thin)
    assert room <= cinders
    assert thin or room == cinders


def test_twenty_at_once_do_not_overfill_a_pool(make):
    service = make("SmallDriver")
    service.core.provider("array")
    results: list[str] = []

    def one(number: int) -> None:
        try:
            create(service, f"v{number}", 1, f"web{number}")
            results.append("made")
        except errors.StorageError as error:
            results.append(error.code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["RESOURCE_EXHAUSTED"] * 12 + ["made"] * 8
    assert used(service) == {"only": 8}


def test_another_controllers_promises_count(make):
    service = make("SmallDriver")
    volume = create(service, "v", 3)
    record = Reservation(id="r1", volume_id=volume["id"], backend="array", pool="only", gib=5, created=time.time())
    # It grows there, and the array does not show it yet.
    service.catalog.apply(update=[(service.catalog.volume_by_id(volume["id"]), {"state": model.EXTENDING})], add=[record])
    with pytest.raises(errors.ResourceExhaustedError, match="it has room for 0 GiB"):
        create(service, "w", 1, "web2")


def test_a_promise_that_a_crash_left_is_dropped(make):
    service = make("SmallDriver")
    service.catalog.add(Reservation(id="r1", volume_id="gone", backend="array", pool="only", gib=8, created=time.time()))
    create(service, "v", 8)
    assert [r.id == "r1" for r in service.catalog.reservations()] == [False]


def test_looks_are_shared_for_seconds(make):
    service = make()
    driver = service.core.provider("array").driver
    before = driver.asked
    for number in range(5):
        create(service, f"v{number}", 1)
    assert driver.asked == before + 1


def test_a_type_may_have_several_backends(make, tmp_path):
    small = {"volume_driver": f"{HERE}.SmallDriver", "file_driver_path": str(tmp_path / "small")}
    down = {"volume_driver": f"{HERE}.SmallDriver", "file_driver_path": "/dev/null/x"}
    types = {"any": {"backend": ["small", "array", "down"]}, "two": {"backend": ["small", "down"]}}
    service = make(more={"small": small, "down": down}, types=types)
    assert create(service, "large", 9, type="any")["backend"] == "array"
    assert create(service, "two", 8, type="two")["backend"] == "small"
    rows = desk.call(service, "place", {"size": 1, "type": "two"})
    assert [(row["backend"], row["chosen"]) for row in rows] == [("small", False), ("down", False)]
    assert "/dev/null/x" in rows[1]["reason"]
    with pytest.raises(errors.InvalidArgumentError, match="on backend 'small' and 'down', not on 'array'"):
        create(service, "wrong", 1, type="two", backend="array")


def test_statistics_are_per_pool(make):
    found = desk.call(make(), "backend_stats", {"name": "array"})
    assert [(pool["name"], pool["total_gib"], pool["thin"]) for pool in found["pools"]] == [
        ("a", 100, False),
        ("b", 50, False),
        ("thin", 10, True),
    ]


@pytest.mark.parametrize(
    ("pool", "room"),
    [
        (Pool(name="x"), None),
        (Pool(name="x", free_gib=5), None),
        (Pool(name="x", free_gib=5, reserved_percentage=1), 0.0),
        (Pool(name="x", total_gib=10, free_gib=0, thin=True, max_over_subscription_ratio=20.0), 0.0),
    ],
)
def test_room_of_a_pool(pool, room):
    assert pool.room() == room


@pytest.mark.parametrize("where", [{"types": {"t": {"pool": 7}}}, {"types": {"t": {"backend": [7]}}}, {"policy": {"*": {"pools": "x"}}}])
def test_wrong_configuration(make, where):
    with pytest.raises(errors.InvalidArgumentError, match="must be a"):
        make(**where)
