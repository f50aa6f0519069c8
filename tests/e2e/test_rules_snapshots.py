# SPDX-License-Identifier: Apache-2.0
"""Snapshots and clones of hosted volumes: rules of the five methods, smis.md 4.2 and 4.3, seen over HTTP and iSCSI."""

import pytest

import lun as luns
from contract import contract
from initiator import ScsiError, host
from process import MIB, SLOWNESS

CREATE = "CreateElementReplica"
MODIFY = "ModifyReplicaSynchronization"
SNAPSHOT, CLONE = 6, 10  # ReplicationType: synchronous, local
SHARED_LAYERS = {"DesiredCopyMethodology": 6}


def make(world, size=4 * MIB, pool="/pools/default", **more):
    answer = world.client.method("CreateOrModifyElementFromStoragePool", {"ElementType": 2, "Size": size, "InPool": pool, **more}, expect=200)
    return answer["TheElement"]


def at(world, volume):
    return host(world.client.get(volume)["Url"])


def fill(world, volume, writer, offset=0, length=MIB):
    with at(world, volume) as session:
        session.fill(offset, length, writer)
        session.flush()


def written(world, volume, offset=0, length=MIB):
    """Who wrote the blocks of the range: {1}, {2}, {None} for zeros."""
    with at(world, volume) as session:
        return session.writers(offset, length)


def replica(world, source, sync_type=7, expect=200, **more):
    return world.client.method(CREATE, {"SyncType": sync_type, "SourceElement": source, **more}, expect=expect)


def modify(world, answer, operation, expect=200, **more):
    return world.client.method(MODIFY, {"Operation": operation, "Synchronization": answer["Synchronization"], **more}, expect=expect)


def state(world, answer):
    return world.client.get(answer["Synchronization"])["CopyState"]


@pytest.fixture
def source(shared):
    """A hosted volume of 4 MiB, the first of them by writer 1."""
    volume = make(shared)
    fill(shared, volume, 1)
    return volume


@pytest.fixture(scope="module")
def other_pool(shared):
    return shared.client.method("CreateOrModifyStoragePool", {"ElementName": "other", "Goal": {"Directory": "otherpool"}},
                                expect=200)["Pool"]


# ---- creation

def test_R13_copy_type_4_is_a_snapshot_at_once_without_a_job(shared, source):
    answer = shared.client.method("CreateReplica", {"SourceElement": source, "CopyType": 4, "ElementName": "R13"}, expect=200)
    assert answer.body == {"ReturnValue": 0, "Job": None, "TargetElement": answer["TargetElement"]}
    relationship = shared.synchronization(source, answer["TargetElement"])
    for name, value in (("SyncType", 7), ("Mode", 2), ("CopyType", 4), ("ReplicaType", 4), ("ReplicationType", 6), ("CopyState", 4),
                        ("SyncState", 6), ("RequestedCopyState", 15), ("ProgressStatus", 2), ("PercentSynced", 100), ("SyncMaintained", False),
                        ("CopyMethodology", 6), ("Job", None)):
        assert relationship[name] == value, (name, relationship[name])
    assert relationship["WhenActivated"] == relationship["WhenSynced"] is not None
    target = shared.client.get(answer["TargetElement"])
    assert target["ElementName"] == "R13" and target["Size"] == shared.client.get(source)["Size"] and target["Pool"] == "/pools/default"


def test_C2_what_shares_layers_answers_0_with_all_outputs(shared, source):
    jobs = len(shared.client.list("/jobs"))
    for sync_type in (7, 8):
        answer = replica(shared, source, sync_type, WaitForCopyState=4)
        assert answer["ReturnValue"] == 0 and answer["Job"] is None and answer["TargetElement"] and answer["Synchronization"]
        assert state(shared, answer) == 4
    assert len(shared.client.list("/jobs")) == jobs


def test_a_snapshot_keeps_the_moment_and_both_can_be_written(shared, source):
    answer = replica(shared, source)
    fill(shared, source, 2)
    fill(shared, answer["TargetElement"], 3, offset=MIB)
    assert written(shared, source) == {2} and written(shared, source, MIB) == {None}
    assert written(shared, answer["TargetElement"]) == {1} and written(shared, answer["TargetElement"], MIB) == {3}


def test_a_write_before_the_answer_is_asked_for_is_in_and_one_after_it_is_not(shared):
    """Unflushed writes too: the host has their status."""
    volume = make(shared)
    with at(shared, volume) as session:
        for sequence in range(1, 9):
            session.fill(0, 64 * 1024, sequence)
            answer = replica(shared, volume)
            session.fill(0, 64 * 1024, 100 + sequence)
            assert written(shared, answer["TargetElement"], 0, 64 * 1024) == {sequence}


def test_a_change_by_hosts_makes_a_snapshot_skewed_and_a_clone_not(shared, source):
    snapshot, clone = replica(shared, source), replica(shared, source, 8)
    assert written(shared, snapshot["TargetElement"]) == {1} and state(shared, snapshot) == 4
    for answer in (snapshot, clone):
        fill(shared, answer["TargetElement"], 5)
    shared.client.until(snapshot["Synchronization"], lambda r: r["CopyState"] == 13, 10 * SLOWNESS)
    assert state(shared, clone) == 4
    again = modify(shared, snapshot, "Resync Replica", WaitForCopyState=4)
    assert again["Job"] is None and state(shared, snapshot) == 4
    fill(shared, snapshot["TargetElement"], 6)
    shared.client.until(snapshot["Synchronization"], lambda r: r["CopyState"] == 13, 10 * SLOWNESS)


def test_R10_copy_type_5_inside_a_pool_is_a_volume_of_its_own_at_once(shared, source):
    answer = shared.client.method("CreateReplica", {"SourceElement": source, "CopyType": 5}, expect=200)
    assert answer["Job"] is None and shared.synchronization(source, answer["TargetElement"]) is None
    assert shared.client.get(source)["Relationships"] == []
    fill(shared, source, 2)
    assert written(shared, answer["TargetElement"]) == {1}


def test_decision_5_a_clone_is_independent_of_its_source(shared):
    volume = make(shared)
    fill(shared, volume, 1)
    answer = replica(shared, volume, 8)
    modify(shared, answer, "Detach")
    shared.client.method("ReturnToStoragePool", {"TheElement": volume}, expect=200)
    shared.client.get(volume, expect=404)
    assert written(shared, answer["TargetElement"]) == {1}


def test_a_full_copy_is_a_job_where_it_is_asked_for_or_has_to_be(shared, source, other_pool):
    for more in ({"ReplicationSettingData": {"DesiredCopyMethodology": 3}}, {"TargetPool": other_pool}):
        answer = replica(shared, source, 8, expect=202, **more)
        relationship = shared.client.get(answer["Synchronization"])
        assert relationship["CopyMethodology"] == 3 and relationship["ReplicationType"] == CLONE
        shared.client.completed(answer["Job"])
        assert written(shared, answer["TargetElement"], 0, 2 * MIB) == {1, None} and state(shared, answer) == 4
        assert shared.client.get(answer["TargetElement"])["Pool"] == more.get("TargetPool", "/pools/default")
    kept = shared.client.method("CreateReplica", {"SourceElement": source, "CopyType": 4, "TargetPool": other_pool}, expect=202)
    shared.client.completed(kept["Job"])
    relationship = shared.synchronization(source, kept["TargetElement"])
    assert (relationship["SyncType"], relationship["Mode"], relationship["CopyType"], relationship["ReplicaType"]) == (8, 3, 4, 2)


def test_copies_go_from_and_to_luns_of_other_systems(shared, source):
    remote = shared.lun(4 * MIB, "dirty")
    out = replica(shared, source, 8, expect=202, TargetElement=shared.volume(remote))
    shared.client.completed(out["Job"])
    with open(remote.path, "rb") as file:
        with at(shared, source) as session:
            assert file.read() == session.read(0, 4 * MIB)
    back = shared.client.method("CreateReplica", {"SourceElement": shared.volume(shared.lun(MIB, "full")), "CopyType": 5,
                                                  "TargetPool": "/pools/default"}, expect=202)
    shared.client.completed(back["Job"])
    assert written(shared, back["TargetElement"]) == {1}


def test_a_target_that_exists_takes_the_content_of_the_source(shared, source):
    """As Cinder's driver for VMAX 3 does: create a volume, snapshot onto it, wait for 4, Dissolve."""
    for sync_type in (7, 8):
        target = make(shared)
        fill(shared, target, 9)
        answer = replica(shared, source, sync_type, TargetElement=target, WaitForCopyState=4)
        assert answer["TargetElement"] == target
        modify(shared, answer, "Dissolve")
        assert shared.client.get(target)["Relationships"] == []
        assert written(shared, target) == {1}
    for copy_type in (4, 5):
        target = make(shared, 8 * MIB)
        fill(shared, target, 9, offset=4 * MIB)
        answer = shared.client.method("AttachReplica", {"SourceElement": source, "TargetElement": target, "CopyType": copy_type}, expect=200)
        assert answer["Job"] is None
        assert (shared.synchronization(source, target) is None) == (copy_type == 5)
        assert written(shared, target) == {1} and written(shared, target, 4 * MIB) == {None}


def test_A12_attach_or_modify_of_a_snapshot_changes_nothing_the_second_time(shared, source):
    target = make(shared)
    body = {"SourceElement": source, "TargetElement": target, "CopyType": 4}
    assert shared.client.method("AttachOrModifyReplica", body, expect=200)["Job"] is None
    relationship = shared.synchronization(source, target)
    fill(shared, source, 2)
    shared.client.method("AttachOrModifyReplica", body, expect=200)
    assert shared.synchronization(source, target)["self"] == relationship["self"]
    assert written(shared, target) == {1}
    shared.client.refused("AttachOrModifyReplica", {**body, "CopyType": 5}, 5, 400, "CopyType")


def test_A14_a_target_that_is_too_small_is_4(shared, source):
    small = make(shared, 2 * MIB)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 7, "SourceElement": source, "TargetElement": small}, 4, 422, "TargetElement",
                              "target_too_small")


def test_what_cannot_share_layers_is_no_snapshot(shared, source, other_pool):
    lun = shared.volume(size=4 * MIB)
    remote_pool = shared.pool(shared.volume(size=4 * MIB))
    elsewhere = make(shared, pool=other_pool)
    with shared.unchanged():
        for more, return_value, status, parameter in (
                ({"SourceElement": lun}, 1, 501, "SourceElement"),
                ({"TargetElement": lun}, 1, 501, "TargetElement"),
                ({"TargetPool": remote_pool}, 1, 501, "TargetPool"),
                ({"TargetPool": other_pool}, 5, 400, "TargetPool"),
                ({"TargetElement": elsewhere}, 4, 422, "TargetElement"),
                ({"ReplicationSettingData": {"DesiredCopyMethodology": 3}}, 1, 501, "ReplicationSettingData.DesiredCopyMethodology")):
            shared.client.refused(CREATE, {"SyncType": 7, "SourceElement": source, **more}, return_value, status, parameter)
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElement": source, "TargetPool": other_pool,
                                       "ReplicationSettingData": SHARED_LAYERS}, 1, 501, "ReplicationSettingData.DesiredCopyMethodology")


def test_the_default_setting_data_can_be_sent_back(shared, source):
    """Cinder's drivers fetch it, change a number and send it."""
    for number, sync_type, change in ((6, 7, {"TargetElementSupplier": 2}), (10, 8, SHARED_LAYERS), (7, 7, {}), (11, 8, {})):
        setting = shared.client.method("GetDefaultReplicationSettingData", {"ReplicationType": number})["DefaultInstance"]
        given = {name: value for name, value in setting.items() if not name.endswith("Text") and name not in ("class",)}
        answer = replica(shared, source, sync_type, ReplicationSettingData={**given, **change}, WaitForCopyState=4)
        assert state(shared, answer) == 4


def test_W3_a_snapshot_waits_for_2_4_or_8_and_nothing_else(shared, source):
    told = shared.client.method("GetSupportedWaitForCopyStates", {"ReplicationType": SNAPSHOT, "MethodName": 2})["SupportedCopyStates"]
    assert set(told) == {2, 4, 8}
    for number in contract().enums["CopyState"]:
        body = {"SyncType": 7, "SourceElement": source, "WaitForCopyState": int(number)}
        if int(number) in told:
            answer = shared.client.method(CREATE, body, expect=200)
            assert state(shared, answer) == int(number)
        else:
            shared.client.refused(CREATE, body, 5, 400, "WaitForCopyState")


@pytest.mark.parametrize("wait", [2, 8])
@pytest.mark.parametrize("sync_type", [7, 8])
def test_W4_before_activate_there_is_a_relationship_and_no_moment(shared, source, sync_type, wait):
    answer = replica(shared, source, sync_type, WaitForCopyState=wait)
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["CopyState"] == wait and relationship["WhenSynced"] is None
    assert shared.client.get(answer["TargetElement"])["Online"] is False
    shared.client.refused(CREATE, {"SyncType": 7, "SourceElement": answer["TargetElement"]}, 4, 409, "SourceElement", "illegal_state")
    fill(shared, source, 2)
    assert modify(shared, answer, "Activate", WaitForCopyState=4)["Job"] is None
    assert state(shared, answer) == 4
    fill(shared, source, 3)
    assert written(shared, answer["TargetElement"]) == {2}


def test_a_target_can_be_read_only_for_its_hosts(shared, source):
    answer = replica(shared, source, ReplicationSettingData={"ReadOnly": 3})
    assert shared.client.get(answer["Synchronization"])["ReadOnly"] == 3
    assert written(shared, answer["TargetElement"]) == {1}
    with pytest.raises(ScsiError) as refused:
        fill(shared, answer["TargetElement"], 7)
    assert refused.value.key == 7  # data protect
    modify(shared, answer, "Resync Replica")
    with pytest.raises(ScsiError):
        fill(shared, answer["TargetElement"], 7)
    modify(shared, answer, "Detach")
    fill(shared, answer["TargetElement"], 7)
    assert written(shared, answer["TargetElement"]) == {7}


# ---- lists

def test_L12_a_list_of_snapshots_is_one_answer_in_order(shared):
    volumes = [make(shared) for _ in range(3)]
    for writer, volume in enumerate(volumes, 1):
        fill(shared, volume, writer)
    answer = shared.client.method("CreateListReplica", {"SyncType": 7, "SourceElements": volumes, "ElementNames": ["a", "b"]}, expect=200)
    assert answer["Job"] is None and len(answer["TargetElements"]) == len(answer["Synchronizations"]) == 3
    for writer, (volume, target, synchronization) in enumerate(zip(volumes, answer["TargetElements"], answer["Synchronizations"]), 1):
        assert shared.client.get(synchronization)["SystemElement"] == volume
        assert shared.client.get(synchronization)["SyncedElement"] == target
        assert written(shared, target) == {writer}
    assert [shared.client.get(t)["ElementName"] for t in answer["TargetElements"][:2]] == ["a", "b"]


def test_L15_one_source_may_have_several_replicas_of_a_list(shared, source):
    answer = shared.client.method("CreateListReplica", {"SyncType": 8, "SourceElements": [source] * 4}, expect=200)
    assert len(set(answer["TargetElements"])) == 4
    for target in answer["TargetElements"]:
        assert written(shared, target) == {1}


def test_L14_the_job_of_a_mixed_list_is_about_the_copied_ones(shared, source):
    """One target beside the source shares its layers, the other is a LUN of another system."""
    beside, far = make(shared), shared.lun(4 * MIB, "dirty")
    answer = shared.client.method("CreateListReplica", {"SyncType": 8, "SourceElements": [source, source],
                                                        "TargetElements": [beside, shared.volume(far)]}, expect=202)
    assert [shared.client.get(s)["CopyMethodology"] for s in answer["Synchronizations"]] == [6, 3]
    assert state(shared, {"Synchronization": answer["Synchronizations"][0]}) == 4
    job = shared.client.completed(answer["Job"])
    assert [copy["TargetElement"] for copy in job["Copies"]] == [answer["TargetElements"][1]]
    assert beside not in [each["Element"] for each in job["AffectedElements"]]
    assert written(shared, beside) == {1}
    luns.assert_byte(far.path, 0, MIB, 3 * MIB)


def test_L16_nothing_of_a_list_is_made_when_one_entry_is_wrong(shared, source):
    lun = shared.volume(size=4 * MIB)
    with shared.unchanged():
        shared.client.refused("CreateListReplica", {"SyncType": 7, "SourceElements": [source, lun]}, 1, 501, "SourceElements[1]")


# ---- operations

def at_state(world, number, sync_type=7):
    """A relationship in that CopyState."""
    volume = make(world)
    fill(world, volume, 1)
    if number in (2, 8):
        return replica(world, volume, sync_type, WaitForCopyState=number)
    if number == 12:
        answer = replica(world, volume, sync_type, WaitForCopyState=2)
        modify(world, answer, "Abort", WaitForCopyState=12)
        return answer
    answer = replica(world, volume, sync_type)
    if number == 13:
        fill(world, answer["TargetElement"], 5)
        world.client.until(answer["Synchronization"], lambda r: r["CopyState"] == 13, 10 * SLOWNESS)
    return answer


@pytest.mark.parametrize("sync_type,number", [(7, 2), (7, 4), (7, 8), (7, 12), (7, 13), (8, 2), (8, 4), (8, 8), (8, 12)])
def test_every_operation_does_what_the_table_says(shared, sync_type, number):
    body = {"ReplicationType": SNAPSHOT if sync_type == 7 else CLONE, "ReplicationSettingData": SHARED_LAYERS}
    everywhere = shared.client.method("GetSupportedOperations", body)["SupportedOperations"]
    here = shared.client.method("GetSupportedOperations", {**body, "CopyState": number})["SupportedOperations"]
    answer = at_state(shared, number, sync_type)
    assert state(shared, answer) == number
    assert shared.client.get(answer["Synchronization"])["LegalOperations"] == here
    told = shared.client.method("GetSupportedOperationsForSynchronization", {"Synchronization": answer["Synchronization"]})
    assert told["SupportedOperations"] == here
    with shared.unchanged():
        for operation in map(int, contract().enums["Operation"]):
            call = {"Operation": operation, "Synchronization": answer["Synchronization"]}
            if operation in here:
                continue
            if operation in everywhere:
                shared.client.refused(MODIFY, call, 4, 409, code="illegal_state")
            else:
                shared.client.refused(MODIFY, call, 1, 501, "Operation")
    # Each legal one on a relationship of its own; smis.md 4.2 and 4.3 say where it ends.
    ends = {2: 12, 4: 4, 7: 8, 14: 4, 15: 4, 8: None, 9: None, 19: None}
    for operation in here:
        one = at_state(shared, number, sync_type)
        done = modify(shared, one, operation)
        assert done["ReturnValue"] == 0 and done["Job"] is None
        if ends[operation] is None:
            shared.client.get(one["Synchronization"], expect=404)
        else:
            assert state(shared, one) == ends[operation], operation
        if operation == 19:
            shared.client.get(one["TargetElement"], expect=404)
        elif operation in (8, 9):
            assert shared.client.get(one["TargetElement"])["Online"] is True
            with at(shared, one["TargetElement"]) as session:
                session.fill(0, MIB, 8)


def test_resync_takes_a_new_moment_and_drops_what_the_target_had(shared, source):
    answer = replica(shared, source)
    before = shared.client.get(answer["Synchronization"])
    with at(shared, answer["TargetElement"]) as session:
        session.fill(0, MIB, 7)
        fill(shared, source, 2)
        modify(shared, answer, "Resync Replica")
        # The host keeps its session and is told that the data is another.
        assert session.writers(0, MIB) == {2} and session.attentions
    after = shared.client.get(answer["Synchronization"])
    assert after["WhenSynced"] >= before["WhenSynced"] and after["CopyState"] == 4


def test_resync_follows_a_source_that_has_grown(shared, source):
    answer = replica(shared, source)
    shared.client.method("CreateOrModifyElementFromStoragePool", {"TheElement": source, "Size": 6 * MIB}, expect=200)
    fill(shared, source, 4, offset=5 * MIB)
    modify(shared, answer, "Resync Replica")
    assert shared.client.get(answer["TargetElement"])["Size"] == 6 * MIB
    assert written(shared, answer["TargetElement"], 5 * MIB) == {4} and written(shared, answer["TargetElement"]) == {1}


@pytest.mark.parametrize("sync_type", [7, 8])
def test_restore_brings_back_the_replica_and_keeps_what_was_there(shared, sync_type):
    name = f"vol-{sync_type}"
    volume = make(shared, ElementName=name)
    fill(shared, volume, 1)
    answer, other = replica(shared, volume, sync_type), replica(shared, volume)
    fill(shared, volume, 2)
    fill(shared, answer["TargetElement"], 3, offset=MIB)  # the replica's own writes come too
    with at(shared, volume) as session:
        assert modify(shared, answer, "Restore from Replica", WaitForCopyState=8)["Job"] is None
        assert session.writers(0, MIB) == {1} and session.attentions
        assert session.writers(MIB, MIB) == {3}
    assert state(shared, answer) == 4
    kept = shared.client.get("/volumes", ElementName=f"{name}-before-restore-1")["Members"]
    assert len(kept) == 1 and written(shared, kept[0]["self"]) == {2}
    # Afterwards they are independent, and another snapshot of the source is what it was.
    fill(shared, volume, 4)
    assert written(shared, answer["TargetElement"]) == {1} and written(shared, other["TargetElement"], MIB) == {None}
    modify(shared, answer, "Restore from Replica")
    assert len(shared.client.get("/volumes", ElementName=f"{name}-before-restore-2")["Members"]) == 1
    assert written(shared, volume) == {1}


def test_a_snapshot_whose_content_is_restored_is_skewed_itself(shared, source):
    first = replica(shared, source)
    second = replica(shared, first["TargetElement"])
    fill(shared, second["TargetElement"], 6)
    modify(shared, second, "Restore from Replica")
    assert written(shared, first["TargetElement"]) == {6}
    assert state(shared, first) == 13 and state(shared, second) == 4


def test_deactivate_loses_the_targets_own_writes(shared, source):
    answer = replica(shared, source)
    fill(shared, answer["TargetElement"], 7)
    url = shared.client.get(answer["TargetElement"])["Url"]
    modify(shared, answer, "Deactivate", WaitForCopyState=8)
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["CopyState"] == 8 and relationship["WhenDeactivated"] and relationship["SyncState"] == 11
    with pytest.raises(ConnectionError):
        host(url).__enter__()
    fill(shared, source, 2)
    modify(shared, answer, "Activate")
    assert written(shared, answer["TargetElement"]) == {2}


def test_return_to_resource_pool_deletes_the_snapshot_and_frees_its_space(shared, source):
    answer = replica(shared, source)
    fill(shared, answer["TargetElement"], 5, 0, 4 * MIB)
    further = replica(shared, answer["TargetElement"])
    modify(shared, answer, "Return To ResourcePool", WaitForCopyState=15)
    for gone in (answer["TargetElement"], answer["Synchronization"], further["Synchronization"]):
        shared.client.get(gone, expect=404)
    assert written(shared, further["TargetElement"]) == {5} and written(shared, source) == {1}


def test_the_ways_of_libstoragemgmt(shared, source):
    """A clone is deleted by Detach and ReturnToStoragePool, a snapshot by operation 19 where SyncState is 6 and CopyType 4."""
    clone = replica(shared, source, 8, ElementName="lsm", WaitForCopyState=4)
    snapshot = replica(shared, source, 7, WaitForCopyState=4)
    for answer in (clone, snapshot):
        relationship = shared.synchronization(source, answer["TargetElement"])
        assert relationship["SyncState"] == 6
        modify(shared, answer, 19 if relationship["CopyType"] == 4 else 8)
    shared.client.method("ReturnToStoragePool", {"TheElement": clone["TargetElement"]}, expect=200)
    for answer in (clone, snapshot):
        shared.client.get(answer["TargetElement"], expect=404)


def test_the_older_operations_on_a_snapshot(shared, source):
    answer = replica(shared, source)
    fill(shared, source, 2)
    old = {"Synchronization": answer["Synchronization"]}
    assert shared.client.method("ModifySynchronization", {"Operation": "Resync Replica", **old}, expect=200)["Job"] is None
    assert written(shared, answer["TargetElement"]) == {2}
    fill(shared, source, 3)
    shared.client.method("ModifySynchronization", {"Operation": "Restore from Replica", **old}, expect=200)
    assert written(shared, source) == {2}
    assert shared.client.method("ModifySynchronization", {"Operation": 8, **old}, expect=501)["ReturnValue"] == 1
    shared.client.method("ModifySynchronization", {"Operation": "Detach", **old}, expect=200)
    shared.client.get(answer["Synchronization"], expect=404)


def test_C10_what_a_job_works_on_is_in_use(shared):
    volume = make(shared, 8 * MIB)
    fill(shared, volume, 1, 0, 8 * MIB)
    snapshot = replica(shared, volume)
    copied = replica(shared, volume, 8, expect=202, ReplicationSettingData={"DesiredCopyMethodology": 3, "BandwidthLimit": 128 << 10})
    shared.copying(copied["Synchronization"])
    with shared.unchanged("copies", "jobs", "synchronizations"):
        problem = shared.client.refused(MODIFY, {"Operation": "Restore from Replica", "Synchronization": snapshot["Synchronization"]}, 6, 409)
        assert problem["BlockedOn"] == copied["Synchronization"]
    modify(shared, snapshot, "Resync Replica")  # reads the source only
    shared.terminate(copied["Job"])


def test_snapshots_survive_kill_9(world):
    volume = make(world)
    fill(world, volume, 1)
    kept, off = replica(world, volume), replica(world, volume, WaitForCopyState=8)
    fill(world, volume, 2)
    fill(world, kept["TargetElement"], 3, offset=MIB)
    world.client.until(kept["Synchronization"], lambda r: r["CopyState"] == 13, 10 * SLOWNESS)
    world.smirror.restart()
    assert written(world, volume) == {2} and written(world, kept["TargetElement"]) == {1}
    assert written(world, kept["TargetElement"], MIB) == {3}
    assert state(world, kept) == 13 and state(world, off) == 8
    modify(world, off, "Activate")
    assert written(world, off["TargetElement"]) == {2}
    modify(world, kept, "Restore from Replica")
    assert written(world, volume) == {1}


@pytest.mark.big
def test_a_volume_has_250_snapshots_and_not_one_more(world):
    volume = make(world)
    limit = world.client.method("GetSupportedMaximum", {"ReplicationType": SNAPSHOT, "Component": 5})["MaxValue"]
    assert limit == 250
    answers = []
    with at(world, volume) as session:
        for sequence in range(limit):
            session.fill(sequence % 256 * 4096, 4096, sequence + 1)
            answers.append(replica(world, volume))
    with world.unchanged("layers"):
        world.client.refused(CREATE, {"SyncType": 7, "SourceElement": volume}, 4, 422, "SourceElement", "limit_reached")
    for at_number in (0, 1, 100, 248, 249):
        assert written(world, answers[at_number]["TargetElement"], at_number * 4096, 4096) == {at_number + 1}
        if at_number < 249:
            assert written(world, answers[at_number]["TargetElement"], (at_number + 1) * 4096, 4096) == {None}
    modify(world, answers[100], "Return To ResourcePool")
    replica(world, volume)
