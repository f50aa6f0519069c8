# SPDX-License-Identifier: Apache-2.0
"""Hosted volumes over HTTP and iSCSI: made, renamed, grown, written to until the pool is full, discarded, deleted."""

import shutil

import pytest

from hosted import DEFAULT, ELEMENT, POOL, Hosted
from initiator import ScsiError, host
from process import MIB, SLOWNESS, run_quiet, until

CAPACITY_CHANGED = 0x2a09
SOFT_THRESHOLD = 0x3807
SPACE_ALLOCATION_FAILED = (7, 0x2707)
LARGEST = (16 << 40) - (16 << 30) - 4096
OVERHEAD = 256 << 10  # metadata of a layer file: header, log, pages


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


# ---- made

def test_a_new_volume_is_a_lun_of_zeros_at_once(array):
    answer = array.client.method(ELEMENT, {"ElementName": "first", "Size": 1 << 30}, expect=200)
    assert answer["ReturnValue"] == 0 and answer["Job"] is None and answer["Size"] == 1 << 30
    volume = array.client.get(answer["TheElement"])
    for name, value in (("ElementName", "first"), ("Kind", "hosted"), ("Pool", DEFAULT), ("System", "/systems/local"), ("Size", 1 << 30),
                        ("BlockSize", 512), ("NumberOfBlocks", 1 << 21), ("ThinlyProvisioned", True), ("Online", True), ("Layers", 1),
                        ("SpaceShared", 0), ("Problem", None), ("Usage", 2), ("OperationalStatus", [2]), ("WriteProtected", False),
                        ("Allocated", True), ("AccessPoint", None), ("Relationships", [])):
        assert volume[name] == value, (name, volume[name])
    assert answer["TheElement"] in array.client.get(DEFAULT)["Elements"]
    for filters in ({"Kind": "hosted"}, {"Pool": DEFAULT}, {"ElementName": "first"}, {"System": "/systems/local", "Allocated": "true"}):
        assert answer["TheElement"] in [each["self"] for each in array.client.list("/volumes", **filters)], filters
    assert array.client.list("/volumes", Kind="remote") == []
    assert DEFAULT in [each["self"] for each in array.client.list("/pools", Kind="file")]
    with host(volume["Url"]) as session:
        assert session.size() == 1 << 30
        assert session.writers((1 << 30) - MIB, MIB) == {None}
        session.fill((1 << 30) - MIB, MIB, 3)
        assert session.writers((1 << 30) - MIB, MIB) == {3} and session.writers(0, MIB) == {None}


@pytest.mark.parametrize("asked,given", [(1, 4096), (4096, 4096), (4097, 8192), (MIB + 1, MIB + 4096), (LARGEST, LARGEST)])
def test_a_size_is_rounded_up_to_whole_blocks(array, asked, given):
    answer = array.client.method(ELEMENT, {"Size": asked}, expect=200)
    assert answer["Size"] == given and array.client.get(answer["TheElement"])["Size"] == given
    with array.host(answer["TheElement"]) as session:
        assert session.size() == given
        session.fill(given - 4096, 4096, 5)
        assert session.writers(given - 4096, 4096) == {5}
    array.delete(answer["TheElement"])


@pytest.mark.parametrize("asked,nearest", [(0, 4096), (LARGEST + 1, LARGEST), ((1 << 64) - 1, LARGEST)])
def test_an_impossible_size_is_4097_with_the_nearest(array, asked, nearest):
    problem = array.client.refused(ELEMENT, {"Size": asked}, 4097, 422, "Size", "size_not_supported")
    assert problem["Size"] == nearest
    array.delete(array.client.method(ELEMENT, {"Size": problem["Size"]}, expect=200)["TheElement"])


def test_types_of_elements(array):
    for number in (2, 5, "StorageVolume", "ThinlyProvisionedStorageVolume"):
        volume = array.make(ElementType=number)
        assert array.client.get(volume)["ThinlyProvisioned"] is True
    for number in (3, 4, 6, 7, 8):
        array.client.refused(ELEMENT, {"Size": MIB, "ElementType": number}, 1, 501, "ElementType")


def test_what_a_new_volume_cannot_be(array):
    unknown = "/pools/000000000000"
    for body, parameter in (({}, "Size"), ({"Size": MIB, "InPool": unknown}, "InPool"), ({"Size": MIB, "InPool": "/systems/local"}, "InPool"),
                            ({"Size": MIB, "Goal": DEFAULT}, "Goal"), ({"Size": MIB, "Goal": "/settings/none"}, "Goal"),
                            ({"Size": MIB, "ElementName": "x" * 2000}, "ElementName"), ({"Size": MIB, "ElementName": "a\nb"}, "ElementName"),
                            ({"Size": MIB, "TheElement": "/volumes/000000000000"}, "TheElement")):
        array.client.refused(ELEMENT, body, 5, 400, parameter, wrong=True)
    array.assert_no_orphans()


def test_a_volume_cannot_be_made_of_luns_of_another_system(world):
    pool = world.pool(world.volume(size=MIB))
    with world.unchanged():
        world.client.refused(ELEMENT, {"Size": MIB, "InPool": pool}, 5, 400, "InPool")
    remote = world.volume(size=MIB)
    assert world.client.method(ELEMENT, {"TheElement": remote, "ElementName": "theirs"}, expect=200)["Size"] == MIB
    assert world.client.get(remote)["ElementName"] == "theirs"
    with world.unchanged():
        world.client.refused(ELEMENT, {"TheElement": remote, "Size": 2 * MIB}, 1, 501, "TheElement")


def test_names_are_ours_when_none_is_given_and_may_be_there_twice(array):
    names = {array.client.get(array.make(MIB))["ElementName"] for _ in range(3)}
    assert len(names) == 3 and all(name.startswith("volume-") for name in names), names
    twice = [array.make(MIB, name="tâche λ 盘") for _ in range(2)]
    assert {each["self"] for each in array.client.list("/volumes", ElementName="tâche λ 盘")} == set(twice)
    assert len({array.client.get(each)["Name"] for each in twice}) == 2


# ---- changed

def test_renaming_changes_the_name_and_nothing_else(array):
    volume = array.make(MIB, name="before")
    array.fill(volume, 1)
    before = array.client.get(volume).body
    answer = array.client.method(ELEMENT, {"TheElement": volume, "ElementName": "after", "ElementType": 2}, expect=200)
    assert answer["TheElement"] == volume and answer["Size"] == MIB
    assert array.client.get(volume).body == {**before, "ElementName": "after"}
    assert array.writers(volume) == {1}


def test_growing_is_seen_by_a_session_that_is_logged_in(array):
    volume = array.make(4 * MIB)
    with array.host(volume) as session:
        session.fill(0, 4 * MIB, 1)
        with pytest.raises(ScsiError) as beyond:
            session.read(4 * MIB, 4096)
        assert (beyond.value.key, beyond.value.ascq) == (5, 0x2100)
        assert array.grow(volume, 64 * MIB)["Size"] == 64 * MIB
        assert session.size() == 64 * MIB and CAPACITY_CHANGED in session.attentions
        assert session.writers(0, 4 * MIB) == {1} and session.writers(60 * MIB, 4 * MIB) == {None}
        session.fill(60 * MIB, 4 * MIB, 2)
        session.flush()
    array.smirror.restart()
    assert array.client.get(volume)["Size"] == 64 * MIB
    assert array.writers(volume, 60 * MIB, 4 * MIB) == {2} and array.writers(volume, 0, 4 * MIB) == {1}


def test_growing_a_volume_leaves_its_snapshot_as_it_is(array):
    volume = array.make(4 * MIB)
    array.fill(volume, 1, 0, 4 * MIB)
    snapshot = array.replica(volume)["TargetElement"]
    array.grow(volume, 8 * MIB)
    array.fill(volume, 2, 4 * MIB, 4 * MIB)
    assert array.client.get(snapshot)["Size"] == 4 * MIB and array.writers(snapshot, 0, 4 * MIB) == {1}
    assert array.writers(volume, 0, 4 * MIB) == {1} and array.writers(volume, 4 * MIB, 4 * MIB) == {2}


def test_a_volume_does_not_become_smaller_or_move(array):
    volume = array.make(4 * MIB)
    for size in (4096, 4 * MIB - 4096):
        problem = array.client.refused(ELEMENT, {"TheElement": volume, "Size": size}, 4097, 422, "Size")
        assert problem["Size"] == 4 * MIB
    assert array.client.refused(ELEMENT, {"TheElement": volume, "Size": 1 << 60}, 4097, 422, "Size")["Size"] == LARGEST
    array.client.refused(ELEMENT, {"TheElement": volume, "InPool": DEFAULT}, 5, 400, "InPool")
    array.client.refused(ELEMENT, {"TheElement": volume, "ElementType": 4}, 1, 501, "ElementType")
    assert array.grow(volume, 4 * MIB)["Size"] == 4 * MIB
    # What is refused changes nothing, the name that came with it neither.
    array.client.refused(ELEMENT, {"TheElement": volume, "ElementName": "no", "Size": 4096}, 4097, 422, "Size")
    assert array.client.get(volume)["ElementName"] != "no"


# ---- deleted

def test_a_volume_that_somebody_is_logged_in_to_is_in_use(array):
    volume = array.make()
    with array.host(volume) as initiator:
        initiator.fill(0, MIB, 1)
        array.client.refused("ReturnToStoragePool", {"TheElement": volume}, 6, 409)
        array.client.delete(volume, expect=409)
        assert initiator.writers(0, MIB) == {1}
    array.delete(volume)
    array.client.get(volume, expect=404)
    array.client.refused("ReturnToStoragePool", {"TheElement": volume}, 5, 400, "TheElement", "no_such_object")


def test_who_has_logged_out_does_not_hold_the_volume(array):
    """At once: the answer to the logout comes after the session has ceased to count."""
    for _ in range(max(20, 100 // SLOWNESS)):
        volume = array.make(MIB)
        array.fill(volume, 1, 0, 4096)
        array.delete(volume)


def test_deleting_gives_the_space_back(array):
    array.assert_no_orphans()
    before = array.used()
    volume = array.make(32 * MIB)
    array.fill(volume, 1, 0, 16 * MIB)
    assert before + 16 * MIB <= array.used() <= before + 16 * MIB + OVERHEAD
    array.client.until(volume, lambda v: 16 * MIB <= v["SpaceConsumed"] <= 16 * MIB + OVERHEAD, 10 * SLOWNESS)
    url = array.url(volume)
    array.delete(volume)
    with pytest.raises(ConnectionError):
        host(url).__enter__()
    array.client.until(DEFAULT, lambda p: p["UsedSpace"] == before and volume not in p["Elements"], 10 * SLOWNESS)
    array.assert_no_orphans()


def test_nobody_logs_in_once_a_deletion_was_answered(array):
    volumes = [array.make(MIB) for _ in range(40)]
    urls = [array.url(volume) for volume in volumes]
    for volume, url in zip(volumes, urls):
        array.delete(volume)
        with pytest.raises(ConnectionError):
            host(url).__enter__()


# ---- a pool that is full

def test_a_full_pool_says_so_to_hosts_and_harms_no_other_volume(array):
    pool = array.make_pool("full", 16 * MIB)
    other = array.make_pool("beside", 16 * MIB)
    a, b, beside = array.make(64 * MIB, pool), array.make(64 * MIB, pool), array.make(4 * MIB, other)
    array.fill(b, 2, 0, 4 * MIB)
    with array.host(a) as session:
        session.fill(0, 4 * MIB, 1)
        session.flush()
        written = 4 * MIB
        with pytest.raises(ScsiError) as full:
            while written < 64 * MIB:
                session.fill(written, MIB, 1)
                written += MIB
        assert (full.value.key, full.value.ascq) == SPACE_ALLOCATION_FAILED
        assert 8 * MIB <= written <= 12 * MIB, written
        # What there is a place for can be written still, and everything can be read.
        session.fill(0, MIB, 3)
        session.flush()
        assert session.writers(0, MIB) == {3} and session.writers(MIB, written - MIB) == {1}
        assert array.writers(b, 0, 4 * MIB) == {2}
        array.fill(b, 4, 0, MIB)
        with pytest.raises(ScsiError) as full:
            array.fill(b, 4, 32 * MIB, 4 * MIB)
        assert (full.value.key, full.value.ascq) == SPACE_ALLOCATION_FAILED
        array.fill(beside, 5, 0, 4 * MIB)
        assert array.used(pool) <= 16 * MIB + OVERHEAD and array.client.get(pool)["RemainingManagedSpace"] < 2 * MIB
        # Room again: by discarding, and by a larger pool.
        session.discard(MIB, 2 * MIB)
        session.flush()
        array.fill(b, 4, 32 * MIB, MIB)
        array.client.method(POOL, {"Pool": pool, "Size": 32 * MIB}, expect=200)
        session.fill(written, 4 * MIB, 6)
        session.flush()
        assert session.writers(written, 4 * MIB) == {6} and session.writers(MIB, 2 * MIB) == {None}
    assert array.writers(b, 32 * MIB, MIB) == {4} and array.writers(b, MIB, 3 * MIB) == {2}
    assert all(array.client.get(volume)["Problem"] is None for volume in (a, b, beside))


def test_a_snapshot_in_a_full_pool_is_made_or_refused_and_harms_nothing(array):
    pool = array.make_pool("snapfull", 8 * MIB)
    volume = array.make(64 * MIB, pool)
    with array.host(volume) as session:
        with pytest.raises(ScsiError):
            session.fill(0, 16 * MIB, 1)
        session.flush()
        answer = array.client.method("CreateElementReplica", {"SyncType": 7, "SourceElement": volume}, expect=(200, 507))
        assert session.writers(0, 4 * MIB) == {1}
        if answer.status == 200:
            # Every write needs space of its own now.
            with pytest.raises(ScsiError) as full:
                session.fill(0, 4 * MIB, 2)
            assert (full.value.key, full.value.ascq) == SPACE_ALLOCATION_FAILED
            assert array.writers(answer["TargetElement"], 0, 4 * MIB) == {1}
            array.modify(answer, "Return To ResourcePool")
    array.assert_no_orphans(pool)


def test_a_pool_that_runs_low_tells_its_hosts(array):
    pool = array.make_pool("low", 16 * MIB)
    volume = array.make(64 * MIB, pool)
    with array.host(volume) as session:
        session.fill(0, 15 * MIB, 1)
        session.flush()
        until(lambda: session.read(0, 4096) and SOFT_THRESHOLD in session.seen, 10, "THIN PROVISIONING SOFT THRESHOLD REACHED")


# ---- discards, zeros

def test_discards_give_space_back_and_read_as_zeros(array):
    volume = array.make(32 * MIB)
    before = array.used()
    with array.host(volume) as session:
        session.fill(0, 16 * MIB, 1)
        session.flush()
        full = array.used()
        assert full >= before + 16 * MIB
        session.discard(4 * MIB, 8 * MIB)
        session.flush()
        until(lambda: array.used() <= full - 8 * MIB + OVERHEAD, 10, "space is given back")
        assert session.writers(4 * MIB, 8 * MIB) == {None}
        assert session.writers(0, 4 * MIB) == {1} and session.writers(12 * MIB, 4 * MIB) == {1}
        session.discard(0, 32 * MIB)
        session.flush()
    until(lambda: array.used() <= before + OVERHEAD, 10, "all space is given back")
    array.smirror.restart()
    assert array.writers(volume, 0, 32 * MIB) == {None}
    assert array.used() <= before + OVERHEAD


@pytest.mark.skipif(not shutil.which("qemu-io"), reason="qemu-utils is not installed")
@pytest.mark.parametrize("command", ["write -z 0 16M", "write -z -u 0 16M", "discard 0 16M"])
def test_zeros_of_qemu_take_no_space_and_give_it_back(array, command):
    """WRITE SAME, with and without UNMAP, and UNMAP."""
    volume = array.make(32 * MIB)
    before = array.used()
    qemu_io = ["qemu-io", "-f", "raw", "-d", "unmap", "-t", "none", "-c", command, "-c", "flush", array.url(volume)]
    run_quiet(qemu_io)
    assert array.used() <= before + OVERHEAD
    array.fill(volume, 1, 8 * MIB, 16 * MIB)
    run_quiet(qemu_io)
    until(lambda: array.used() <= before + 8 * MIB + OVERHEAD, 10, "space is given back")
    assert array.writers(volume, 0, 16 * MIB) == {None} and array.writers(volume, 16 * MIB, 8 * MIB) == {1}


def test_a_discard_of_a_snapshots_source_frees_nothing_that_the_snapshot_has(array):
    volume = array.make(8 * MIB)
    array.fill(volume, 1, 0, 8 * MIB)
    answer = array.replica(volume)
    with array.host(volume) as session:
        session.discard(0, 8 * MIB)
        session.flush()
        assert session.writers(0, 8 * MIB) == {None}
    assert array.writers(answer["TargetElement"], 0, 8 * MIB) == {1}
    full = array.used()
    array.modify(answer, "Return To ResourcePool")
    until(lambda: array.used() <= full - 8 * MIB + 2 * OVERHEAD, 30, "the data of nobody goes")
    assert array.writers(volume, 0, 8 * MIB) == {None}
