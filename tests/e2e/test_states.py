# SPDX-License-Identifier: Apache-2.0
"""Operations on relationships: every operation in every state does what the capabilities say, and nothing else."""

import pytest

import lun as luns
from contract import contract
from process import MIB, SLOWNESS

MODIFY = "ModifyReplicaSynchronization"
CLONE_REMOTE = 12


def modify(world, synchronization, operation, **more):
    return world.client.method(MODIFY, {"Operation": operation, "Synchronization": synchronization, **more})


def supported(world, state=None):
    body = {"ReplicationType": CLONE_REMOTE}
    if state is not None:
        body["CopyState"] = state
    return world.client.method("GetSupportedOperations", body)


def make_state(world, state):
    """A relationship in that CopyState: (synchronization, job that still runs or None, source LUN, target LUN)."""
    source_lun, source, target_lun, target = world.pair(4 * MIB)
    if state in (2, 8):
        answer = world.client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": target,
                                                              "WaitForCopyState": state})
        if answer["Job"]:
            world.client.completed(answer["Job"])
        return answer["Synchronization"], None, source_lun, target_lun
    if state == 4:
        return world.clone(source, target, wait=True)["Synchronization"], None, source_lun, target_lun
    answer = world.slow_clone(source, target)
    if state == 3:
        return answer["Synchronization"], answer["Job"], source_lun, target_lun
    if state == 12:
        world.terminate(answer["Job"])
    elif state == 9:
        modify(world, answer["Synchronization"], "Suspend")
    elif state == 5:
        world.array.kill()
        target_lun.options["first"] = target_lun.options["scsi_id"], target_lun.options["scsi_sn"]
        target_lun.options["scsi_id"] = target_lun.options["scsi_sn"] = "another"
        world.array.start()
        world.client.wait(answer["Job"], 30 * SLOWNESS)
    world.client.until(answer["Synchronization"], lambda r: r["CopyState"] == state, 30 * SLOWNESS)
    return answer["Synchronization"], (answer["Job"] if state == 9 else None), source_lun, target_lun


@pytest.mark.parametrize("state", [2, 3, 4, 5, 8, 9, 12])
def test_every_operation_is_refused_where_the_table_refuses_it(world, state):
    if state not in world.client.method("GetSupportedCopyStates", {"ReplicationType": CLONE_REMOTE})["SupportedCopyStates"]:
        pytest.skip(f"clones are never in CopyState {state}")
    synchronization, job, _, _ = make_state(world, state)
    relationship = world.client.get(synchronization)
    assert relationship["CopyState"] == state
    here = supported(world, state)
    everywhere = supported(world)["SupportedOperations"]
    force = dict(zip(here["SupportedOperations"], here["RequiresForce"]))
    legal = {operation for operation in force if not force[operation]}
    # 19 Return To ResourcePool is for relationships of CopyType 4 only.
    assert set(relationship["LegalOperations"]) == legal - {19}
    told = world.client.method("GetSupportedOperationsForSynchronization", {"Synchronization": synchronization})
    assert set(told["SupportedOperations"]) == set(force) - {19}
    legal -= {19}
    with world.unchanged("copies", "jobs.state", *(["synchronizations", "jobs"] if job else [])):
        for number in contract().enums["Operation"]:
            operation = int(number)
            body = {"Operation": operation, "Synchronization": synchronization}
            if operation in legal:
                continue
            if operation == 19:
                world.client.refused(MODIFY, body, 1, 501, "Operation")
            elif operation in force:
                problem = world.client.refused(MODIFY, body, 4, 409, code="illegal_state")
                assert "Force" in problem["detail"]
            elif operation in everywhere:
                problem = world.client.refused(MODIFY, body, 4, 409, code="illegal_state")
                for other in legal:
                    assert contract().enums["Operation"][str(other)] in problem["detail"], problem.text
            else:
                world.client.refused(MODIFY, body, 1, 501, "Operation")
    if job:
        world.terminate(job)


def test_the_capability_arrays_are_parallel_and_agree_both_ways(shared):
    states = shared.client.method("GetSupportedCopyStates", {"ReplicationType": CLONE_REMOTE})
    assert len(states["SupportedCopyStates"]) == len(states["HostAccessible"])
    for state in states["SupportedCopyStates"]:
        here = supported(shared, state)
        assert len(here["SupportedOperations"]) == len(here["RequiresForce"]) == len(here["UpdatesSynchronizedPath"]) \
            == len(here["ServiceControlling"])
        for operation in here["SupportedOperations"]:
            back = shared.client.method("GetSupportedCopyStates", {"ReplicationType": CLONE_REMOTE, "Operation": operation})
            assert state in back["SupportedCopyStates"], (state, operation)


def test_abort_stops_the_copy_and_the_job(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target)
    modify(shared, answer["Synchronization"], "Abort")
    job = shared.client.wait(answer["Job"], 20 * SLOWNESS)
    assert job["JobState"] in (8, 10) and job["ErrorCode"] != 0
    assert shared.client.get(answer["Synchronization"])["CopyState"] == 12


def test_detach_leaves_two_independent_volumes(shared):
    source_lun, source, target_lun, target = shared.pair(MIB)
    answer = shared.clone(source, target, wait=True)
    assert modify(shared, answer["Synchronization"], "Detach").status == 200
    shared.client.get(answer["Synchronization"], expect=404)
    for volume in (source, target):
        assert shared.client.get(volume)["Relationships"] == []
    luns.assert_equal(source_lun.path, target_lun.path)
    shared.clone(target, source, wait=True)


def test_detach_of_a_running_copy_needs_force_and_ends_the_job(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target)
    shared.client.refused(MODIFY, {"Operation": 8, "Synchronization": answer["Synchronization"]}, 4, 409, code="illegal_state")
    modify(shared, answer["Synchronization"], 8, Force=True)
    job = shared.client.wait(answer["Job"], 20 * SLOWNESS)
    assert job["JobState"] in (8, 9, 10)
    assert shared.synchronization(source, target) is None
    # The target can be used again at once.
    shared.clone(source, target, wait=True)


def test_resync_is_a_full_copy_again(shared):
    source_lun, source, target_lun, target = shared.pair(MIB)
    answer = shared.clone(source, target, wait=True)
    before = shared.client.get(answer["Synchronization"])
    luns.full(source_lun.path, MIB, writer=2)
    again = modify(shared, answer["Synchronization"], "Resync Replica")
    assert again.status == 202
    shared.client.completed(again["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)
    after = shared.client.get(answer["Synchronization"])
    assert after["CopyState"] == 4 and after["WhenSynced"] >= before["WhenSynced"]


@pytest.mark.parametrize("state", [5, 12])
def test_resync_starts_an_aborted_or_broken_copy_again(world, state):
    synchronization, _, source_lun, target_lun = make_state(world, state)
    if state == 5:
        # The LUN is another one: that has to be put right first, and looked at.
        target = world.client.get(synchronization)["SyncedElement"]
        world.client.refused(MODIFY, {"Operation": "Resync Replica", "Synchronization": synchronization}, 4, 409, code="lun_changed")
        world.array.kill()
        target_lun.options["scsi_id"], target_lun.options["scsi_sn"] = target_lun.options["first"]
        world.array.start()
        world.client.method("ScsiScan", {}, expect=200)
        assert world.client.get(target)["Problem"] is None
    answer = modify(world, synchronization, "Resync Replica", ReplicationSettingData={"BandwidthLimit": 0})
    world.client.completed(answer["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)


def test_the_older_numbers_mean_the_same_operations(shared):
    """ModifySynchronization: 2 Detach, 4 Resync Replica; 13 Stop Copy is Abort."""
    source_lun, source, target_lun, target = shared.pair(MIB)
    answer = shared.clone(source, target, wait=True)
    luns.full(source_lun.path, MIB, writer=3)
    again = shared.client.method("ModifySynchronization", {"Operation": 4, "Synchronization": answer["Synchronization"]}, expect=202)
    shared.client.completed(again["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)
    gone = shared.client.method("ModifySynchronization", {"Operation": "Detach", "Synchronization": answer["Synchronization"]}, expect=200)
    assert gone["Job"] is None
    shared.client.get(answer["Synchronization"], expect=404)
    for operation in (10, 11):
        shared.client.refused("ModifySynchronization", {"Operation": operation, "Synchronization": shared.clone(source, target, wait=True)[
            "Synchronization"]}, 1, 501, "Operation")
        shared.client.method("ModifySynchronization", {"Operation": 2, "Synchronization": shared.synchronization(source, target)["self"]})


def test_states_with_their_sync_state_as_the_table_says(world):
    wanted = {2: 2, 3: 15, 4: 6, 5: 12, 12: 12}
    for state, sync_state in wanted.items():
        if state == 2 and 2 not in world.client.method("GetSupportedWaitForCopyStates", {"ReplicationType": CLONE_REMOTE, "MethodName": 2})[
                "SupportedCopyStates"]:
            continue
        synchronization, job, _, _ = make_state(world, state)
        relationship = world.client.get(synchronization)
        assert (relationship["CopyState"], relationship["SyncState"]) == (state, sync_state)
        assert relationship["CopyStateText"] == contract().enums["CopyState"][str(state)]
        if job:
            world.terminate(job)


def test_return_to_resource_pool_is_for_copy_type_4(shared):
    pool = shared.pool(shared.volume(size=MIB))
    source = shared.volume(size=MIB)
    answer = shared.client.method("CreateReplica", {"SourceElement": source, "TargetPool": pool, "CopyType": 4}, expect=202)
    shared.client.completed(answer["Job"])
    relationship = shared.synchronization(source, answer["TargetElement"])
    result = modify(shared, relationship["self"], "Return To ResourcePool")
    if result["Job"]:
        shared.client.completed(result["Job"])
    assert shared.synchronization(source, answer["TargetElement"]) is None
    assert shared.client.get(answer["TargetElement"])["Allocated"] is False
    clone = shared.clone(source, TargetPool=pool, wait=True)
    shared.client.refused(MODIFY, {"Operation": 19, "Synchronization": clone["Synchronization"]}, 1, 501, "Operation")


def test_sync_pairs_belong_to_groups(shared):
    _, source, _, target = shared.pair(MIB)
    answer = shared.clone(source, target, wait=True)
    with shared.unchanged():
        for operation in (5, 13):
            shared.client.refused(MODIFY, {"Operation": operation, "Synchronization": answer["Synchronization"]}, 1, 501, "Operation")
        shared.client.refused(MODIFY, {"Operation": 14, "Synchronization": answer["Synchronization"],
                                       "SyncPair": [answer["Synchronization"]]}, 5, 400, "SyncPair")


def test_suspend_and_resume_of_a_relationship(shared):
    source_lun, source, target_lun, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 512 << 10})
    shared.client.until(answer["Job"], lambda job: job["BytesDone"] > 0, 20 * SLOWNESS)
    modify(shared, answer["Synchronization"], "Suspend", WaitForCopyState=9)
    relationship = shared.client.until(answer["Synchronization"], lambda r: r["CopyState"] == 9, 10 * SLOWNESS)
    assert relationship["WhenSuspended"] and shared.client.get(answer["Job"])["JobState"] == 5
    modify(shared, answer["Synchronization"], "Resume")
    shared.client.until(answer["Synchronization"], lambda r: r["CopyState"] in (3, 4), 10 * SLOWNESS)
    shared.client.completed(answer["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)


def test_restore_copies_the_target_back_to_the_source(shared):
    source_lun, source, target_lun, target = shared.pair(MIB)
    answer = shared.clone(source, target, wait=True)
    luns.full(source_lun.path, MIB, writer=66)
    restored = modify(shared, answer["Synchronization"], "Restore from Replica")
    shared.client.completed(restored["Job"])
    luns.assert_equal(target_lun.path, luns.full(shared.file(), MIB))
    luns.assert_equal(target_lun.path, source_lun.path)
    assert shared.client.get(answer["Synchronization"])["CopyState"] == 4


def test_a_half_done_restore_keeps_the_good_side(shared):
    """The source is incomplete then: what would copy it over the target asks for Force, Restore may be taken up again."""
    source_lun, source, target_lun, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, wait=True)
    luns.dirty(source_lun.path, 4 * MIB)
    restoring = modify(shared, answer["Synchronization"], 15, ReplicationSettingData={"BandwidthLimit": 512 << 10})
    shared.client.until(restoring["Job"], lambda job: job["BytesDone"] > 0, 20 * SLOWNESS)
    shared.terminate(restoring["Job"])
    relationship = shared.client.get(answer["Synchronization"])
    assert 15 in relationship["LegalOperations"] and 14 not in relationship["LegalOperations"]
    problem = shared.client.refused(MODIFY, {"Operation": 14, "Synchronization": answer["Synchronization"]}, 4, 409, code="illegal_state")
    assert "Force" in problem["detail"]
    luns.assert_equal(target_lun.path, luns.full(shared.file(), 4 * MIB))
    again = modify(shared, answer["Synchronization"], 15, ReplicationSettingData={"BandwidthLimit": 0})
    shared.client.completed(again["Job"])
    luns.assert_equal(target_lun.path, source_lun.path)


def test_dissolve_ends_the_relationship_and_keeps_both_volumes(shared):
    source_lun, source, target_lun, target = shared.pair(MIB)
    answer = shared.clone(source, target, wait=True)
    assert modify(shared, answer["Synchronization"], "Dissolve").status == 200
    assert shared.synchronization(source, target) is None
    luns.assert_equal(source_lun.path, target_lun.path)


def test_the_older_numbers_of_suspend_resume_abort_start_and_restore(shared):
    """8 Quiesce, 9 Unquiesce, 13 Stop Copy, 12 Start Copy, 5 Restore from Replica."""
    def old(operation, expect=(200, 202)):
        return shared.client.method("ModifySynchronization", {"Operation": operation, "Synchronization": synchronization}, expect=expect)

    source_lun, source, target_lun, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 512 << 10})
    synchronization = answer["Synchronization"]
    shared.copying(synchronization)
    old("Quiesce")
    shared.client.until(synchronization, lambda r: r["CopyState"] == 9, 10 * SLOWNESS)
    old("Unquiesce")
    shared.client.until(synchronization, lambda r: r["CopyState"] == 3, 10 * SLOWNESS)
    old("Stop Copy")
    shared.client.until(synchronization, lambda r: r["CopyState"] == 12, 10 * SLOWNESS)
    shared.client.wait(answer["Job"])
    assert old("Start Copy", expect=409)["Code"] == "illegal_state"
    again = old("Resync Replica")
    shared.client.completed(again["Job"])
    luns.dirty(source_lun.path, 4 * MIB)
    shared.client.completed(old("Restore from Replica")["Job"])
    luns.assert_equal(target_lun.path, source_lun.path)
    for operation in (3, 6, 7, 10, 11):
        assert old(operation, expect=501)["ReturnValue"] == 1
