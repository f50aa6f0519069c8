# SPDX-License-Identifier: Apache-2.0
"""Pools of remote LUNs: made, changed, emptied; LUNs taken from them and given back."""

import pytest

from process import MIB
from tgtd import Tgtd
import lun as luns

POOL = "CreateOrModifyStoragePool"


def test_a_pool_shows_its_luns_and_its_space(shared):
    volumes = [shared.volume(size=size) for size in (MIB, 2 * MIB)]
    answer = shared.client.method(POOL, {"ElementName": "first", "InExtents": volumes}, expect=200)
    assert answer["Size"] == 3 * MIB and answer["Job"] is None
    pool = shared.client.get(answer["Pool"])
    assert pool["ElementName"] == "first" and pool["Kind"] == "remote" and pool["Elements"] == volumes
    assert (pool["TotalManagedSpace"], pool["RemainingManagedSpace"]) == (3 * MIB, 3 * MIB)
    for volume in volumes:
        assert shared.client.get(volume)["Pool"] == answer["Pool"] and shared.client.get(volume)["Allocated"] is False
    assert [member["self"] for member in shared.client.list("/volumes", Pool=answer["Pool"])] == volumes
    assert answer["Pool"] in [member["self"] for member in shared.client.list("/pools", System=pool["System"], Kind="remote")]


def test_the_set_is_replaced_and_the_name_changed(shared):
    a, b, c = (shared.volume(size=MIB) for _ in range(3))
    pool = shared.pool(a, b, name="before")
    shared.client.method(POOL, {"Pool": pool, "InExtents": [b, c]}, expect=200)
    assert set(shared.client.get(pool)["Elements"]) == {b, c} and shared.client.get(pool)["ElementName"] == "before"
    assert shared.client.get(a)["Pool"] is None
    shared.client.method(POOL, {"Pool": pool, "ElementName": "after"}, expect=200)
    assert shared.client.get(pool)["ElementName"] == "after" and set(shared.client.get(pool)["Elements"]) == {b, c}


def test_a_lun_belongs_to_one_pool_only(shared):
    volume = shared.volume(size=MIB)
    pool = shared.pool(volume)
    with shared.unchanged():
        problem = shared.client.refused(POOL, {"InExtents": [volume]}, 6, 409)
        assert problem["BlockedOn"] == pool


def test_all_luns_of_a_pool_are_of_one_system(shared, directory):
    other = Tgtd(directory / "other")
    try:
        ours = shared.volume(size=MIB)
        foreign = shared.volume(other.target().lun(luns.create(directory / "lun", MIB)))
        with shared.unchanged():
            shared.client.refused(POOL, {"InExtents": [ours, foreign]}, 5, 400)
    finally:
        other.kill()


@pytest.mark.parametrize("body", [{}, {"InExtents": []}, {"InExtents": ["/volumes/000000000000"]}, {"InExtents": ["/systems/local"]},
                                  {"InExtents": [""]}])
def test_a_pool_of_nothing_is_invalid(shared, body):
    with shared.unchanged():
        shared.client.refused(POOL, body, 5, 400)


def test_the_same_lun_twice_is_invalid_or_once(shared):
    volume = shared.volume(size=MIB)
    answer = shared.client.method(POOL, {"InExtents": [volume, volume]}, expect=(200, 400))
    if answer.status == 200:
        assert shared.client.get(answer["Pool"])["Elements"] == [volume]
    else:
        assert answer["ReturnValue"] == 5


@pytest.mark.parametrize("name,value", [("Goal", {"Directory": "x"}), ("Size", 1000), ("InPools", ["/pools/x"])])
def test_a_pool_of_luns_has_no_storage_of_its_own(shared, name, value):
    volume = shared.volume(size=MIB)
    with shared.unchanged():
        shared.client.refused(POOL, {"InExtents": [volume], name: value}, 1, 501, name)


def test_a_lun_that_holds_a_replica_cannot_be_taken_out_and_its_pool_not_deleted(shared):
    used, free = shared.volume(size=MIB), shared.volume(size=2 * MIB)
    pool = shared.pool(used, free)
    answer = shared.clone(shared.volume(size=MIB), TargetPool=pool, wait=True)
    assert answer["TargetElement"] == used
    with shared.unchanged():
        shared.client.refused(POOL, {"Pool": pool, "InExtents": [free]}, 6, 409)
        shared.client.refused("DeleteStoragePool", {"Pool": pool}, 6, 409)
        shared.client.delete(used, expect=409)
        shared.client.delete(free, expect=409)


def test_deleting_a_pool_keeps_its_luns(shared):
    volume = shared.volume(size=MIB)
    pool = shared.pool(volume)
    answer = shared.client.method("DeleteStoragePool", {"Pool": pool}, expect=200)
    assert answer["Job"] is None
    shared.client.get(pool, expect=404)
    assert shared.client.get(volume)["Pool"] is None
    shared.client.refused("DeleteStoragePool", {"Pool": pool}, 5, 400, "Pool", "no_such_object")


def test_giving_a_lun_back_frees_it_and_leaves_its_data(shared):
    source_lun = shared.lun(MIB, "full")
    target_lun = shared.lun(MIB)
    source, target = shared.volume(source_lun), shared.volume(target_lun)
    pool = shared.pool(target)
    answer = shared.clone(source, TargetPool=pool, wait=True)
    returned = shared.client.method("ReturnToStoragePool", {"TheElement": target}, expect=200)
    assert returned["Job"] is None
    volume = shared.client.get(target)
    assert volume["Allocated"] is False and volume["Pool"] == pool and volume["Relationships"] == []
    shared.client.get(answer["Synchronization"], expect=404)
    assert shared.client.get(pool)["RemainingManagedSpace"] == MIB
    luns.assert_equal(source_lun.path, target_lun.path)
    # And it can be had again.
    assert shared.clone(source, TargetPool=pool, wait=True)["TargetElement"] == target


def test_a_volume_of_no_pool_cannot_be_given_back(shared):
    volume = shared.volume(size=MIB)
    with shared.unchanged():
        problem = shared.client.refused("ReturnToStoragePool", {"TheElement": volume}, 4, 422, code="not_from_a_pool")
        assert "DELETE" in problem["detail"]


def test_a_lun_with_a_running_copy_cannot_be_given_back(shared):
    pool = shared.pool(shared.volume(size=4 * MIB))
    answer = shared.clone(shared.volume(size=4 * MIB, fill="full"), TargetPool=pool, ReplicationSettingData={"BandwidthLimit": 128 << 10})
    shared.copying(answer["Synchronization"])
    with shared.unchanged("copies", "jobs"):
        problem = shared.client.refused("ReturnToStoragePool", {"TheElement": answer["TargetElement"]}, 6, 409)
        assert problem["BlockedOn"] in (answer["Job"], answer["Synchronization"])
    shared.terminate(answer["Job"])


def test_available_targets_are_large_enough_free_and_smallest_first(world):
    source = world.volume(size=2 * MIB)
    large, fits, small, taken = (world.volume(size=size) for size in (8 * MIB, 2 * MIB, MIB, 4 * MIB))
    pool = world.pool(large)
    world.clone(small, taken, wait=True)
    ask = {"SourceElement": source, "SyncType": 8}
    assert world.client.method("GetAvailableTargetElements", ask)["Candidates"] == [fits, large]
    assert world.client.method("GetAvailableTargetElements", {**ask, "TargetPools": [pool]})["Candidates"] == [large]
    assert world.client.method("GetAvailableTargetElements", {**ask, "MaxElementCount": 1})["Candidates"] == [fits]
    point = world.client.get(source)["AccessPoint"]
    assert world.client.method("GetAvailableTargetElements", {**ask, "TargetAccessPoint": point})["Candidates"] == [fits, large]
    world.client.refused("GetAvailableTargetElements", {**ask, "MaxElementCount": 0}, 5, 400, "MaxElementCount")
    world.client.refused("GetAvailableTargetElements", {**ask, "SyncType": 6}, 1, 501, "SourceElement")  # its hosts write past us
