# SPDX-License-Identifier: Apache-2.0
"""The copier against tgtd: equal byte by byte, no more bytes moved than there are, every kind of pair."""

import time

import pytest

import lun as luns
from faults import Proxy
from process import MIB, SLOWNESS
from tgtd import Tgtd

GIB = 1 << 30
BIG = GIB if SLOWNESS == 1 else 64 * MIB


@pytest.mark.big
def test_a_lun_of_1_gib_of_random_data_is_equal_byte_by_byte(world):
    source_lun, target_lun = world.lun(GIB, "full", bs="aio"), world.lun(GIB, bs="aio")
    answer = world.clone(world.volume(source_lun), world.volume(target_lun))
    job = world.client.completed(answer["Job"], 120)
    luns.assert_equal(source_lun.path, target_lun.path)
    assert job["BytesTotal"] == job["BytesDone"] == GIB
    assert job["BytesRead"] == job["BytesWritten"] == GIB


@pytest.mark.parametrize("extent", [64 << 10, 10 * MIB], ids=["64KiB", "10MiB"])
def test_of_a_sparse_lun_at_most_15_percent_is_read(world, extent):
    """10 % is written, and the source tells its map. What was on the target before is not there any more."""
    size = 512 * MIB if SLOWNESS == 1 else 128 * MIB
    path = world.file()
    luns.sparse(path, size, 0.1, extent)
    source_lun = world.target.lun(path, thin=True)
    target_lun = world.lun(size, thin=True)
    luns.fill(target_lun.path, luns.scattered(size, 0.05, 1 * MIB, seed=7), writer=9)
    answer = world.clone(world.volume(source_lun), world.volume(target_lun))
    job = world.client.completed(answer["Job"], 120 * SLOWNESS)
    luns.assert_equal(source_lun.path, target_lun.path)
    assert job["BytesRead"] <= 0.15 * size, job["BytesRead"] / size
    assert job["BytesWritten"] <= 0.15 * size
    assert job["BytesDone"] == job["BytesTotal"] == size
    # A target that can unmap stays thin.
    assert luns.allocated(target_lun.path) <= 0.15 * size


def test_a_source_that_reports_no_map_is_read_and_its_zeros_are_not_sent(world):
    size = 128 * MIB
    path = world.file()
    luns.sparse(path, size, 0.1, 1 * MIB)
    source_lun, target_lun = world.target.lun(path), world.lun(size, "dirty", thin=True)
    answer = world.clone(world.volume(source_lun), world.volume(target_lun))
    job = world.client.completed(answer["Job"], 120 * SLOWNESS)
    luns.assert_equal(source_lun.path, target_lun.path)
    assert job["BytesRead"] == size and job["BytesWritten"] <= 0.15 * size, job


@pytest.mark.parametrize("target_block", [512, 4096])
@pytest.mark.parametrize("source_block", [512, 4096])
def test_block_sizes_of_512_and_4096_go_together(world, source_block, target_block):
    source_lun, source, target_lun, target = world.pair(8 * MIB, source_options={"block": source_block},
                                                        target_options={"block": target_block}, target_fill="dirty")
    world.clone(source, target, wait=True)
    luns.assert_equal(source_lun.path, target_lun.path)


def test_a_source_that_ends_within_a_block_of_the_target_keeps_what_is_behind(world):
    """512-byte blocks into 4096-byte blocks, the source 1.5 KiB longer than the last whole one."""
    size = 4 * MIB + 3 * 512
    source_path, target_path = world.file(), luns.dirty(world.file(), 8 * MIB)
    luns.full(source_path, 8 * MIB)
    with open(source_path, "r+b") as file:
        file.truncate(size)
    source, target = world.volume(world.target.lun(source_path)), world.volume(world.target.lun(target_path, block=4096))
    world.clone(source, target, wait=True)
    luns.assert_equal(source_path, target_path, size)
    luns.assert_byte(target_path, 0xdb, size, 8 * MIB - size)


def test_what_lies_behind_the_end_of_the_source_is_left_alone(world):
    source_lun, source, target_lun, target = world.pair(4 * MIB, target_size=9 * MIB, target_fill="dirty")
    world.clone(source, target, wait=True)
    luns.assert_equal(source_lun.path, target_lun.path)
    luns.assert_byte(target_lun.path, 0xdb, 4 * MIB, 5 * MIB)


def test_a_smaller_target_is_refused(world):
    _, source, target_lun, target = world.pair(4 * MIB, target_size=4 * MIB - 512, target_fill="dirty")
    with world.unchanged():
        problem = world.client.refused("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": target}, 4, 422,
                                       "TargetElement", "target_too_small")
        assert str(4 * MIB) in problem["detail"] and str(4 * MIB - 512) in problem["detail"]
    luns.assert_byte(target_lun.path, 0xdb, 0, 4 * MIB - 512)


@pytest.mark.parametrize("thin", [False, True], ids=["thick", "thin"])
@pytest.mark.parametrize("bs", ["rdwr", "aio"])
def test_zeros_reach_a_dirty_target(world, thin, bs):
    """A source that is all zeros: the target is never taken to be zero because it might be."""
    source_lun = world.lun(16 * MIB, thin=True)
    target_lun = world.lun(16 * MIB, "dirty", thin=thin, bs=bs)
    job = world.client.completed(world.clone(world.volume(source_lun), world.volume(target_lun))["Job"])
    luns.assert_byte(target_lun.path, 0, 0, 16 * MIB)
    assert job["BytesDone"] == 16 * MIB
    if thin and bs == "rdwr":
        assert job["BytesWritten"] == 0 and job["BytesZeroed"] == 16 * MIB


def test_a_thin_target_that_is_empty_already_is_left_alone(world):
    source_lun, target_lun = world.lun(64 * MIB, thin=True), world.lun(64 * MIB, thin=True)
    job = world.client.completed(world.clone(world.volume(source_lun), world.volume(target_lun))["Job"])
    assert job["BytesWritten"] == 0 and job["BytesRead"] <= 1 * MIB
    assert luns.allocated(target_lun.path) <= 1 * MIB


def test_verification_reads_both_sides_again_and_finds_them_equal(world):
    source_lun, source, target_lun, target = world.pair(8 * MIB)
    answer = world.clone(source, target, ReplicationSettingData={"Verify": True})
    job = world.client.completed(answer["Job"])
    assert world.client.get(answer["Synchronization"])["Verify"] is True
    assert job["BytesRead"] >= 8 * MIB and job["PercentComplete"] == 100
    luns.assert_equal(source_lun.path, target_lun.path)


def test_verification_finds_what_is_not_equal(world):
    """Somebody writes to the target behind our back while the copy is slow."""
    _, source, target_lun, target = world.pair(8 * MIB)
    answer = world.clone(source, target, ReplicationSettingData={"Verify": True, "BandwidthLimit": 4 * MIB})
    world.client.until(answer["Job"], lambda job: job["CheckpointBytes"] >= 2 * MIB or job["BytesDone"] >= 5 * MIB, 30 * SLOWNESS)
    with open(target_lun.path, "r+b") as file:
        file.seek(64 << 10)
        file.write(b"Somebody else was here")
    job = world.client.wait(answer["Job"], 60 * SLOWNESS)
    assert job["JobState"] == 10 and job["ErrorCodeText"] == "verify_mismatch", job
    assert str(64 << 10) in job["ErrorDescription"], job["ErrorDescription"]
    assert world.client.get(answer["Synchronization"])["CopyState"] == 5


@pytest.mark.release
@pytest.mark.parametrize("limit", [4 * MIB, 16 * MIB])
def test_the_bandwidth_limit_holds(world, limit):
    size = 2 * limit
    _, source, _, target = world.pair(size)
    began = time.monotonic()
    answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": limit})
    world.client.completed(answer["Job"])
    took = time.monotonic() - began
    assert 1.5 <= took <= 3.0, f"{size} bytes at {limit} a second took {took:.2f} s"


@pytest.mark.release
def test_the_limit_of_the_service_is_for_all_copies_together(make_world):
    world = make_world("--copy-bandwidth-limit", "8M")
    pairs = [world.pair(8 * MIB) for _ in range(2)]
    began = time.monotonic()
    jobs = [world.clone(source, target)["Job"] for _, source, _, target in pairs]
    for job in jobs:
        world.client.completed(job)
    took = time.monotonic() - began
    assert 1.5 <= took <= 4.0, took


def test_several_copies_at_once_are_all_right(world):
    pairs = [world.pair(8 * MIB) for _ in range(6)]
    for i, (source_lun, _, _, _) in enumerate(pairs):
        luns.full(source_lun.path, 8 * MIB, writer=100 + i)
    answers = [world.clone(source, target) for _, source, _, target in pairs]
    for answer in answers:
        world.client.completed(answer["Job"])
    for source_lun, _, target_lun, _ in pairs:
        luns.assert_equal(source_lun.path, target_lun.path)


def test_an_untuned_array_with_8_kib_segments_is_served_too(world):
    plain = world.array.target(tuned=False)
    source_lun = plain.lun(luns.full(world.file(), 8 * MIB))
    target_lun = plain.lun(luns.dirty(world.file(), 8 * MIB))
    world.clone(world.volume(source_lun), world.volume(target_lun), wait=True)
    luns.assert_equal(source_lun.path, target_lun.path)


def test_from_one_array_to_another(world, directory):
    other = Tgtd(directory / "other")
    try:
        source_lun = world.lun(8 * MIB, "full")
        target_lun = other.target().lun(luns.dirty(directory / "lun", 8 * MIB))
        world.clone(world.volume(source_lun), world.volume(target_lun), wait=True)
        luns.assert_equal(source_lun.path, target_lun.path)
    finally:
        other.kill()


@pytest.mark.parametrize("size", [512, 4096, 1 * MIB - 512, 1 * MIB + 512, 3 * 512], ids=str)
def test_odd_sizes(world, size):
    path = world.file()
    luns.full(path, 2 * MIB)
    with open(path, "r+b") as file:
        file.truncate(size)
    target_path = luns.dirty(world.file(), size)
    world.clone(world.volume(world.target.lun(path)), world.volume(world.target.lun(target_path)), wait=True)
    luns.assert_equal(path, target_path)


def test_a_slow_line_is_no_error(world):
    """Each piece of every connection is 20 ms late."""
    source_lun, target_lun = world.lun(8 * MIB, "full"), world.lun(8 * MIB, "dirty")
    proxy = Proxy(world.array.port)
    proxy.delay = 0.02
    try:
        source = world.client.volume_of(source_lun.url_at(proxy.portal))
        world.clone(source, world.volume(target_lun), wait=True)
        luns.assert_equal(source_lun.path, target_lun.path)
    finally:
        proxy.close()


def test_a_copy_of_a_copy(world):
    first_lun, first, second_lun, second = world.pair(4 * MIB)
    third_lun = world.lun(4 * MIB, "dirty")
    world.clone(first, second, wait=True)
    world.clone(second, world.volume(third_lun), wait=True)
    luns.assert_equal(first_lun.path, third_lun.path)


def test_many_small_copies_leave_nothing_behind(world):
    """Descriptors, sessions and memory of the service after 60 copies are what they were after 10."""
    def once(n):
        pairs = [world.pair(MIB, fill=None) for _ in range(n)]
        for answer in [world.clone(source, target) for _, source, _, target in pairs]:
            world.client.completed(answer["Job"])
        import os
        time.sleep(0.2)
        pid = world.smirror.process.pid
        resident = int(open(f"/proc/{pid}/statm").read().split()[1]) * 4096
        return len(os.listdir(f"/proc/{pid}/fd")), resident

    before_files, before_memory = once(10)
    after_files, after_memory = once(50)
    assert after_files <= before_files + 4, (before_files, after_files)
    if SLOWNESS == 1:
        assert after_memory <= before_memory + 32 * MIB, (before_memory, after_memory)
