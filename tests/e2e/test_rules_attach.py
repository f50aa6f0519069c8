# SPDX-License-Identifier: Apache-2.0
"""Rules A of AttachOrModifyReplica (and AttachReplica, its predecessor), one test for each, named after it."""

import pytest

import lun as luns
from process import MIB, SLOWNESS, until
from tgtd import Tgtd

ATTACH = "AttachOrModifyReplica"
BOTH = (ATTACH, "AttachReplica")


def attach(world, source, target, copy_type=4, **more):
    return world.client.method(ATTACH, {"SourceElement": source, "TargetElement": target, "CopyType": copy_type, **more})


def test_A1_source_target_and_copy_type_are_required(shared):
    _, source, _, target = shared.pair(MIB)
    right = {"SourceElement": source, "TargetElement": target, "CopyType": 4}
    with shared.unchanged():
        for method in BOTH:
            for name in right:
                for body in ({k: v for k, v in right.items() if k != name}, {**right, name: None}):
                    shared.client.refused(method, body, 5, 400, name, "missing_parameter", wrong=True)


def test_A2_no_element_is_created(shared):
    _, source, _, target = shared.pair(MIB)
    volumes = [volume["self"] for volume in shared.client.list("/volumes")]
    shared.client.completed(attach(shared, source, target)["Job"])
    assert [volume["self"] for volume in shared.client.list("/volumes")] == volumes
    with shared.unchanged():
        shared.client.refused(ATTACH, {"SourceElement": source, "TargetElement": "/volumes/000000000000", "CopyType": 4}, 5, 400,
                              "TargetElement", "no_such_object")


def test_A3_other_storage_objects_than_volumes_are_invalid(shared):
    volume = shared.volume(size=MIB)
    pool = shared.pool(shared.volume(size=MIB))
    with shared.unchanged():
        for method in BOTH:
            shared.client.refused(method, {"SourceElement": pool, "TargetElement": volume, "CopyType": 4}, 5, 400, "SourceElement",
                                  "wrong_class", wrong=True)
            shared.client.refused(method, {"SourceElement": volume, "TargetElement": pool, "CopyType": 4}, 5, 400, "TargetElement",
                                  "wrong_class", wrong=True)


def test_A4_source_and_target_are_not_the_same(shared):
    volume = shared.volume(size=MIB)
    with shared.unchanged():
        for method in BOTH:
            shared.client.refused(method, {"SourceElement": volume, "TargetElement": volume, "CopyType": 4}, 5, 400, "TargetElement")


@pytest.mark.parametrize("copy_type", [0, 1, 6, 4095, 0x1000, 0x8000, 65535, "Mirror", "unsync"])
def test_A5_other_copy_types_are_invalid(shared, copy_type):
    _, source, _, target = shared.pair(MIB, fill=None)
    with shared.unchanged():
        for method in BOTH:
            shared.client.refused(method, {"SourceElement": source, "TargetElement": target, "CopyType": copy_type}, 5, 400, "CopyType",
                                  wrong=True)


@pytest.mark.parametrize("copy_type,parameter", [(3, "SourceElement"), ("Sync", "SourceElement")])
def test_A5_a_lun_of_another_system_has_no_synchronous_mirror(shared, copy_type, parameter):
    """Its hosts write past us."""
    _, source, _, target = shared.pair(MIB, fill=None)
    with shared.unchanged():
        for method in BOTH:
            shared.client.refused(method, {"SourceElement": source, "TargetElement": target, "CopyType": copy_type}, 1, 501, parameter)


@pytest.mark.parametrize("copy_type", [4, 5])
def test_A6_a_full_copy_through_a_pipe_is_invalid(shared, copy_type):
    _, source, _, target = shared.pair(MIB, fill=None)
    with shared.unchanged():
        problem = shared.client.refused(ATTACH, {"SourceElement": source, "TargetElement": target, "CopyType": copy_type,
                                                 "ReplicationPipe": "/pipes/000000000000"}, 5, 400)
        assert problem["Parameter"] in ("ReplicationPipe", "CopyType") and "ReplicationPipe" in problem["detail"]


def test_A7_source_and_target_may_be_on_different_arrays(shared, directory):
    source_lun = shared.lun(MIB, "full")
    other = Tgtd(directory / "other")
    try:
        luns.dirty(directory / "target", MIB)
        target_lun = other.target().lun(directory / "target")
        source, target = shared.volume(source_lun), shared.volume(target_lun)
        assert shared.client.get(source)["System"] != shared.client.get(target)["System"]
        shared.client.completed(attach(shared, source, target)["Job"])
        luns.assert_equal(source_lun.path, target_lun.path)
    finally:
        other.kill()


def test_A8_the_goal_is_applied_to_the_target_and_null_leaves_it(shared):
    _, source, _, target = shared.pair(MIB)
    assert shared.client.get(target)["Setting"] is None
    answer = attach(shared, source, target, Goal={"ReplicationPriority": "High", "BandwidthLimit": 1 << 30, "Verify": True})
    shared.client.completed(answer["Job"])
    setting = shared.client.get(shared.client.get(target)["Setting"])
    assert setting["ReplicationPriorityText"] == "High" and setting["BandwidthLimit"] == 1 << 30 and setting["Verify"] is True
    relationship = shared.synchronization(source, target)
    assert relationship["CopyPriorityText"] == "High" and relationship["BandwidthLimit"] == 1 << 30 and relationship["Verify"] is True
    # Modify with a Goal changes it, without one leaves it.
    assert attach(shared, source, target)["ReturnValue"] == 0
    assert shared.client.get(shared.client.get(target)["Setting"])["BandwidthLimit"] == 1 << 30
    assert attach(shared, source, target, Goal='{"class":"CIM_StorageSetting","BandwidthLimit":"2147483648"}')["ReturnValue"] == 0
    assert shared.client.get(shared.client.get(target)["Setting"])["BandwidthLimit"] == 1 << 31


def test_A8_a_goal_that_cannot_be_honoured_is_not_supported_and_named(shared):
    _, source, _, target = shared.pair(MIB, fill=None)
    with shared.unchanged():
        for name, value in (("NoSinglePointOfFailure", True), ("DataRedundancyGoal", 2), ("CompressedElement", True),
                            ("SpaceLimit", 1000)):
            shared.client.refused(ATTACH, {"SourceElement": source, "TargetElement": target, "CopyType": 4, "Goal": {name: value}}, 1, 501,
                                  f"Goal.{name}")


def test_A9_a_pipe_that_is_none_is_invalid(shared):
    _, source, _, target = shared.pair(MIB, fill=None)
    with shared.unchanged():
        for path in ("/pipes/000000000000", "/pools/x", "/systems/local", ""):
            problem = shared.client.refused(ATTACH, {"SourceElement": source, "TargetElement": target, "CopyType": 4,
                                                     "ReplicationPipe": path}, 5, 400, wrong=True)
            assert problem["Parameter"] in ("ReplicationPipe", "CopyType")


def test_A11_A12_a_pair_that_is_related_is_modified_and_the_same_values_change_nothing(shared):
    _, source, _, target = shared.pair(MIB)
    shared.client.completed(attach(shared, source, target)["Job"])
    relationship = shared.synchronization(source, target)
    with shared.unchanged():
        answer = attach(shared, source, target)
        assert answer.status == 200 and answer["ReturnValue"] == 0 and answer["Job"] is None
    assert shared.synchronization(source, target) == relationship


@pytest.mark.parametrize("copy_type,return_value,status", [(5, 5, 400), (2, 5, 400), (3, 5, 400)])
def test_A12_another_copy_type_of_a_pair_that_is_related_is_invalid(shared, copy_type, return_value, status):
    _, source, _, target = shared.pair(MIB)
    shared.client.completed(attach(shared, source, target)["Job"])
    with shared.unchanged():
        problem = shared.client.method(ATTACH, {"SourceElement": source, "TargetElement": target, "CopyType": copy_type},
                                       expect=(status, 501))
        assert problem["ReturnValue"] in ((return_value,) if copy_type == 5 else (return_value, 1))
        assert problem["Parameter"] == "CopyType"


def test_A13_a_target_of_another_source_is_in_use(shared):
    _, source, _, target = shared.pair(MIB)
    shared.client.completed(attach(shared, source, target)["Job"])
    other = shared.volume(size=MIB)
    with shared.unchanged():
        for method in BOTH:
            problem = shared.client.refused(method, {"SourceElement": other, "TargetElement": target, "CopyType": 4}, 6, 409)
            assert problem["BlockedOn"] == shared.synchronization(source, target)["self"]


def test_A13_elements_of_a_copy_that_runs_are_in_use(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = attach(shared, source, target, Goal={"BandwidthLimit": 128 << 10})
    shared.copying(shared.synchronization(source, target)["self"])
    third = shared.volume(size=4 * MIB)
    with shared.unchanged("copies", "jobs"):
        for method in BOTH:
            shared.client.refused(method, {"SourceElement": third, "TargetElement": target, "CopyType": 5}, 6, 409)
            shared.client.refused(method, {"SourceElement": target, "TargetElement": third, "CopyType": 5}, 6, 409)
            shared.client.refused(method, {"SourceElement": third, "TargetElement": source, "CopyType": 5}, 6, 409)
    shared.terminate(answer["Job"])


def test_A14_a_target_that_is_too_small_is_failed(shared):
    source, target = shared.volume(size=2 * MIB), shared.volume(size=2 * MIB - 4096)
    with shared.unchanged():
        for method in BOTH:
            shared.client.refused(method, {"SourceElement": source, "TargetElement": target, "CopyType": 4}, 4, 422, "TargetElement",
                                  "target_too_small")


def test_A15_A16_there_is_a_job_no_synchronization_output_and_the_pair_finds_the_association(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = attach(shared, source, target, Goal={"BandwidthLimit": 2 * MIB})
    assert answer["ReturnValue"] == 4096 and set(answer.body) == {"ReturnValue", "Job"}
    relationship = shared.synchronization(source, target)
    assert relationship["Job"] == answer["Job"]
    job = shared.client.get(answer["Job"])
    assert relationship["self"] in [copy["Synchronization"] for copy in job["Copies"]]
    problem = shared.client.call("POST", "/services/StorageConfigurationService/AttachOrModifyReplica",
                                 body={"SourceElement": source, "TargetElement": target, "CopyType": 4, "WaitForCopyState": 4},
                                 wrong=True, expect=400)
    assert problem["Code"] == "unknown_member"
    shared.client.completed(answer["Job"])


def test_A16_initial_synchronization_3_makes_the_association_and_does_not_copy(shared):
    source_lun, source, target_lun, target = shared.pair(MIB, target_fill="dirty")
    answer = attach(shared, source, target, Goal={"InitialSynchronization": "Do Not Start"})
    if answer["Job"]:
        shared.client.completed(answer["Job"])
    relationship = shared.synchronization(source, target)
    assert relationship["CopyState"] in (2, 8) and relationship["Job"] is None
    luns.assert_byte(target_lun.path, 0xdb, 0, MIB)
    operation = 4 if 4 in relationship["LegalOperations"] else 14
    started = shared.client.method("ModifyReplicaSynchronization", {"Operation": operation, "Synchronization": relationship["self"]})
    shared.client.completed(started["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)


@pytest.mark.parametrize("method", BOTH)
def test_A17_the_association_of_copy_type_5_is_there_while_it_copies_and_goes_with_the_job(shared, method):
    source_lun, source, target_lun, target = shared.pair(4 * MIB)
    body = {"SourceElement": source, "TargetElement": target, "CopyType": 5}
    if method == ATTACH:
        body["Goal"] = {"BandwidthLimit": 2 * MIB}
    answer = shared.client.method(method, body, expect=202)
    if method == ATTACH:
        assert shared.copying(shared.synchronization(source, target)["self"])["CopyState"] == 3
    shared.client.completed(answer["Job"])
    assert shared.synchronization(source, target) is None
    assert shared.client.get(target)["Relationships"] == []
    luns.assert_equal(source_lun.path, target_lun.path)


def test_A18_what_was_on_the_target_is_overwritten(shared):
    source_lun, source, target_lun, target = shared.pair(MIB, target_fill="dirty")
    shared.client.completed(attach(shared, source, target)["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)


@pytest.mark.parametrize("copy_type,expected", [
    (4, {"CopyType": 4, "SyncType": 8, "Mode": 3, "ReplicaType": 2, "ReplicationType": 13}),
    (5, {"CopyType": 5, "SyncType": 8, "Mode": 2, "ReplicaType": 2, "ReplicationType": 12})])
def test_A19_the_relationship_has_the_properties_of_its_copy_type(shared, copy_type, expected):
    _, source, _, target = shared.pair(4 * MIB)
    answer = attach(shared, source, target, copy_type, Goal={"BandwidthLimit": 2 * MIB})
    relationship = shared.copying(shared.synchronization(source, target)["self"])
    assert {name: relationship[name] for name in expected} == expected
    assert relationship["CopyState"] == 3 and relationship["SyncMaintained"] is False and relationship["WhenSynced"] is None
    shared.client.completed(answer["Job"])
    if copy_type == 4:
        relationship = shared.synchronization(source, target)
        assert (relationship["CopyState"], relationship["SyncState"], relationship["PercentSynced"]) == (4, 6, 100)
        assert relationship["SyncMaintained"] is False and relationship["WhenSynced"] and relationship["WhenSynchronized"]


def test_A20_no_reserved_return_value_comes_out(shared):
    """The client of the tests compares every ReturnValue with x-return-values; here is what that list may hold."""
    from contract import contract
    for method in BOTH:
        values = {int(number) for number in
                  contract().document["paths"][f"/services/StorageConfigurationService/{method}"]["post"]["x-return-values"]}
        assert not [v for v in values if 7 <= v <= 0x0fff or 0x1001 <= v <= 0xffff]


def test_a_pair_can_be_attached_again_after_detach(shared):
    source_lun, source, target_lun, target = shared.pair(MIB)
    shared.client.completed(attach(shared, source, target)["Job"])
    first = shared.synchronization(source, target)
    shared.client.method("ModifyReplicaSynchronization", {"Operation": "Detach", "Synchronization": first["self"]}, expect=200)
    luns.full(source_lun.path, MIB, writer=2)
    shared.client.completed(attach(shared, source, target)["Job"])
    assert shared.synchronization(source, target)["self"] != first["self"]
    luns.assert_equal(source_lun.path, target_lun.path)
    until(lambda: not shared.client.list("/jobs", JobState=4), 10 * SLOWNESS, "no job runs")
