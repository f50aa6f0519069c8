# SPDX-License-Identifier: Apache-2.0
"""Rules R of CreateReplica, one test for each, named after it."""

import pytest

import lun as luns
from process import MIB

CREATE = "CreateReplica"


@pytest.fixture
def pool(shared):
    """A pool with two free LUNs of 1 MiB."""
    return shared.pool(shared.volume(size=MIB), shared.volume(size=MIB))


def create(world, source, pool=None, copy_type=4, **more):
    body = {"SourceElement": source, "CopyType": copy_type, **more}
    if pool:
        body["TargetPool"] = pool
    return world.client.method(CREATE, body, expect=202)


def test_R1_the_source_is_required(shared):
    with shared.unchanged():
        for body in ({"CopyType": 4}, {"CopyType": 4, "SourceElement": None}):
            shared.client.refused(CREATE, body, 5, 400, "SourceElement", "missing_parameter", wrong=True)


def test_R2_the_target_is_output_only(shared, pool):
    source, target = shared.volume(size=MIB), shared.volume(size=MIB)
    with shared.unchanged():
        problem = shared.client.method(CREATE, {"SourceElement": source, "CopyType": 4, "TargetElement": target}, expect=400, wrong=True)
        assert problem["Code"] == "out_parameter" and problem["Parameter"] == "TargetElement" and "ReturnValue" not in problem.body


def test_R3_the_name_is_stored_or_made_up(shared, pool):
    source = shared.volume(size=MIB)
    named = create(shared, source, pool, ElementName="R3 \u00e9\u4e2d 'x'")
    unnamed = create(shared, source, pool)
    assert shared.client.get(named["TargetElement"])["ElementName"] == "R3 \u00e9\u4e2d 'x'"
    assert shared.client.get(unnamed["TargetElement"])["ElementName"] not in ("", "R3 \u00e9\u4e2d 'x'")
    shared.settle()


def test_R4_the_goal_is_a_reference_to_a_setting(shared, pool):
    source, other, goal_target = shared.volume(size=MIB), shared.volume(size=MIB), shared.volume(size=MIB)
    answer = shared.client.method("AttachOrModifyReplica", {"SourceElement": other, "TargetElement": goal_target, "CopyType": 5,
                                                            "Goal": {"BandwidthLimit": 12345678}})
    shared.client.completed(answer["Job"])
    setting = shared.client.get(goal_target)["Setting"]
    made = create(shared, source, pool, TargetSettingGoal=setting)
    relationship = shared.synchronization(source, made["TargetElement"])
    assert relationship["BandwidthLimit"] == 12345678
    with shared.unchanged("copies", "jobs", "synchronizations"):
        shared.client.refused(CREATE, {"SourceElement": source, "CopyType": 4, "TargetSettingGoal": {"BandwidthLimit": 1}}, 5, 400,
                              "TargetSettingGoal", "wrong_type", wrong=True)
    shared.client.delete(setting, expect=409)
    shared.settle()


def test_R5_the_target_comes_from_the_pool_that_is_named(shared, pool):
    other_pool = shared.pool(shared.volume(size=MIB))
    source = shared.volume(size=MIB)
    answer = create(shared, source, other_pool)
    target = shared.client.get(answer["TargetElement"])
    assert target["Pool"] == other_pool and target["Allocated"] is True
    assert shared.client.get(other_pool)["RemainingManagedSpace"] == 0
    shared.client.completed(answer["Job"])


def test_R5_without_a_pool_any_pool_will_do(shared, pool):
    answer = create(shared, shared.volume(size=MIB))
    assert shared.client.get(answer["TargetElement"])["Pool"] is not None
    shared.client.completed(answer["Job"])


def test_R6_the_copy_type_is_required(shared, pool):
    source = shared.volume(size=MIB)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SourceElement": source, "TargetPool": pool}, 5, 400, "CopyType", "missing_parameter", wrong=True)


@pytest.mark.parametrize("copy_type", [0, 1, 6, 7, 32767, 0x8000, 65535])
def test_R7_other_copy_types_are_invalid(shared, pool, copy_type):
    source = shared.volume(size=MIB)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SourceElement": source, "TargetPool": pool, "CopyType": copy_type}, 5, 400, "CopyType", wrong=True)


def test_R7_a_lun_of_another_system_has_no_synchronous_mirror(shared, pool):
    source = shared.volume(size=MIB)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SourceElement": source, "TargetPool": pool, "CopyType": 3}, 1, 501, "SourceElement")


def test_R8_with_a_job_the_target_and_its_association_are_there_at_once(shared, pool):
    source = shared.volume(size=MIB)
    answer = create(shared, source, pool)
    assert set(answer.body) == {"ReturnValue", "Job", "TargetElement"} and answer["Job"]
    assert shared.synchronization(source, answer["TargetElement"])["Job"] in (answer["Job"], None)
    shared.client.completed(answer["Job"])


def test_R9_the_smallest_free_lun_that_fits_is_taken(shared):
    volumes = {size: shared.volume(size=size) for size in (4 * MIB, MIB, 2 * MIB, 3 * MIB)}
    pool = shared.pool(*volumes.values())
    source = shared.volume(size=MIB + 4096)
    for size in (2 * MIB, 3 * MIB, 4 * MIB):
        answer = create(shared, source, pool)
        assert answer["TargetElement"] == volumes[size]
        shared.client.completed(answer["Job"])
    with shared.unchanged():
        shared.client.refused(CREATE, {"SourceElement": source, "TargetPool": pool, "CopyType": 4}, 4, 507, code="no_space")
    same = create(shared, shared.volume(size=MIB), pool)
    assert same["TargetElement"] == volumes[MIB]
    shared.client.completed(same["Job"])


def test_R10_copy_type_4_keeps_its_association_and_5_does_not(shared, pool):
    source_lun = shared.lun(MIB, "full")
    source = shared.volume(source_lun)
    kept, gone = create(shared, source, pool, 4), create(shared, source, pool, 5)
    for answer in (kept, gone):
        shared.client.completed(answer["Job"])
    relationship = shared.synchronization(source, kept["TargetElement"])
    assert relationship["CopyState"] == 4 and relationship["SyncMaintained"] is False and relationship["CopyType"] == 4
    assert shared.synchronization(source, gone["TargetElement"]) is None
    # The LUN of a copy whose association is gone holds a replica all the same.
    assert shared.client.get(gone["TargetElement"])["Allocated"] is True


def test_R11_there_is_no_wait_and_no_synchronization(shared, pool):
    source = shared.volume(size=MIB)
    with shared.unchanged():
        for name in ("WaitForCopyState", "Synchronization", "SyncType"):
            problem = shared.client.method(CREATE, {"SourceElement": source, "CopyType": 4, name: None}, expect=400, wrong=True)
            assert problem["Code"] == "unknown_member"


def test_R12_no_space_is_4_and_not_4097(shared):
    pool = shared.pool(shared.volume(size=MIB))
    source = shared.volume(size=8 * MIB)
    with shared.unchanged():
        problem = shared.client.refused(CREATE, {"SourceElement": source, "TargetPool": pool, "CopyType": 5}, 4, 507, code="no_space")
        assert "4097" not in problem.text


def test_a_replica_holds_what_the_source_held(shared, pool):
    source_lun = shared.lun(MIB, "full")
    source = shared.volume(source_lun)
    answer = create(shared, source, pool)
    shared.client.completed(answer["Job"])
    number = int(shared.client.get(answer["TargetElement"])["Url"].rsplit("/", 1)[1])
    luns.assert_equal(source_lun.path, shared.target.luns[number].path)


def test_the_source_may_be_in_the_pool_itself_and_is_never_its_own_target(shared):
    source, other = shared.volume(size=MIB), shared.volume(size=MIB)
    pool = shared.pool(source, other)
    answer = create(shared, source, pool)
    assert answer["TargetElement"] == other
    shared.client.completed(answer["Job"])
    with shared.unchanged():
        shared.client.refused(CREATE, {"SourceElement": source, "TargetPool": pool, "CopyType": 4}, 4, 507, code="no_space")


def test_a_setting_that_no_volume_uses_can_be_deleted(shared):
    """A Goal made it for a volume; when that is forgotten, nothing uses it any more."""
    source, target = shared.volume(size=MIB), shared.volume(size=MIB)
    answer = shared.client.method("AttachOrModifyReplica", {"SourceElement": source, "TargetElement": target, "CopyType": 5,
                                                            "Goal": {"BandwidthLimit": 87654321}})
    shared.client.completed(answer["Job"])
    setting = shared.client.get(target)["Setting"]
    problem = shared.client.delete(setting, expect=409)
    assert problem["BlockedOn"] == target
    shared.client.delete(target)
    shared.client.delete(setting)
    shared.client.get(setting, expect=404)
