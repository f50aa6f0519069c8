# SPDX-License-Identifier: Apache-2.0
"""Rules A, R, C, L and W of smis.md as far as they are about synchronous mirrors, and the states of 4.1 over HTTP."""

import itertools

import pytest

from hosted import ELEMENT, MODIFY, Hosted
from process import MIB, SLOWNESS

ATTACH = "AttachOrModifyReplica"
REPLICA = "CreateReplica"
_names = itertools.count(1)


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


@pytest.fixture
def pair(array):
    """Two volumes of 4 MiB, not related."""
    return array.make(4 * MIB, name=f"a{next(_names)}"), array.make(4 * MIB, name=f"b{next(_names)}")


def relationship(array, source, target):
    (found,) = array.client.get("/synchronizations", SystemElement=source, SyncedElement=target)["Members"]
    return found


def reaches(array, synchronization, state):
    return array.client.until(synchronization, lambda r: r["CopyState"] == state, 30 * SLOWNESS)


def mirror(array, source, target=None, **more):
    body = {"SyncType": 6, "SourceElement": source, **({"TargetElement": target} if target else {}), **more}
    answer = array.client.method("CreateElementReplica", body, expect=202)
    reaches(array, answer["Synchronization"], 4)
    return answer


# ---- making

@pytest.mark.parametrize("method", [ATTACH, "AttachReplica"])
def test_A15_A19_a_pair_becomes_a_mirror(array, pair, method):
    source, target = pair
    answer = array.client.method(method, {"SourceElement": source, "TargetElement": target, "CopyType": 3}, expect=202)
    array.client.completed(answer["Job"], 30 * SLOWNESS)
    made = relationship(array, source, target)
    assert (made["SyncType"], made["Mode"], made["CopyType"], made["ReplicaType"]) == (6, 2, 3, 2)
    assert made["CopyState"] == 4 and made["SyncState"] == 6 and made["SyncMaintained"] is True


def test_A11_A12_attached_again_it_is_changed(array, pair):
    source, target = pair
    body = {"SourceElement": source, "TargetElement": target, "CopyType": 3}
    array.client.completed(array.client.method(ATTACH, body, expect=202)["Job"], 30 * SLOWNESS)
    before = relationship(array, source, target)
    assert array.client.method(ATTACH, body, expect=200)["Job"] is None
    assert relationship(array, source, target) == before
    array.client.method(ATTACH, {**body, "Goal": {"BandwidthLimit": 5 * MIB, "ReplicationPriority": 4}}, expect=200)
    after = relationship(array, source, target)
    assert after["BandwidthLimit"] == 5 * MIB and after["CopyPriority"] == 3 and after["CopyState"] == 4
    for copy_type in (4, 5):
        array.client.refused(ATTACH, {**body, "CopyType": copy_type}, 5, 400, "CopyType")


def test_A13_A14_a_target_is_free_and_large_enough(array, pair):
    source, target = pair
    small = array.make(2 * MIB)
    array.client.refused(ATTACH, {"SourceElement": source, "TargetElement": small, "CopyType": 3}, 4, 422)
    mirror(array, source, target)
    other = array.make(4 * MIB)
    problem = array.client.refused(ATTACH, {"SourceElement": other, "TargetElement": target, "CopyType": 3}, 6, 409)
    assert problem["BlockedOn"] == relationship(array, source, target)["self"]
    array.client.refused(ATTACH, {"SourceElement": other, "TargetElement": source, "CopyType": 3}, 6, 409)
    # One after the other: what is a target can be mirrored further.
    further = mirror(array, target, other)
    array.fill(source, 1, length=8192)
    assert array.writers(other, 0, 8192) == {1}
    array.modify(further, "Detach")


def test_A16_a_goal_can_say_that_nothing_flows_yet(array, pair):
    source, target = pair
    body = {"SourceElement": source, "TargetElement": target, "CopyType": 3, "Goal": {"InitialSynchronization": 3}}
    assert array.client.method(ATTACH, body, expect=200)["Job"] is None
    assert relationship(array, source, target)["CopyState"] == 2


def test_R8_R9_R10_create_replica_makes_the_target(array, pair):
    source, _ = pair
    array.fill(source, 3)
    pool = array.make_pool(size=64 * MIB)
    answer = array.client.method(REPLICA, {"SourceElement": source, "CopyType": 3, "TargetPool": pool, "ElementName": "other-side"}, expect=202)
    array.client.completed(answer["Job"], 30 * SLOWNESS)
    target = array.client.get(answer["TargetElement"])
    assert target["Pool"] == pool and target["ElementName"] == "other-side" and target["Size"] == 4 * MIB
    assert relationship(array, source, answer["TargetElement"])["SyncMaintained"]
    assert array.writers(answer["TargetElement"]) == {3}


def test_L14_a_list_of_mirrors_has_one_job(array):
    sources = [array.make(MIB) for _ in range(3)]
    answer = array.client.method("CreateListReplica", {"SyncType": 6, "Mode": 2, "SourceElements": sources, "WaitForCopyState": 4}, expect=202)
    array.client.completed(answer["Job"], 30 * SLOWNESS)
    for synchronization in answer["Synchronizations"]:
        assert array.client.get(synchronization)["CopyState"] == 4


def test_several_mirrors_of_one_source(array, pair):
    source, target = pair
    mirror(array, source, target)
    second = mirror(array, source)
    array.fill(source, 4, length=MIB)
    assert array.writers(target) == array.writers(second["TargetElement"]) == {4}


@pytest.mark.parametrize("name,value", [("DeltaUpdateInterval", "PT30S"), ("DesiredRPO", "PT30S"), ("DeltaUpdateBlocks", 100), ("Verify", True),
                                        ("ReadOnly", 3), ("DesiredCopyMethodology", 3), ("ConsistentPointInTime", True)])
def test_G18_what_a_synchronous_mirror_cannot_honour_is_refused(array, pair, name, value):
    source, target = pair
    array.client.refused("CreateElementReplica", {"SyncType": 6, "Mode": 2, "SourceElement": source, "TargetElement": target,
                                                  "ReplicationSettingData": {name: value}}, 1, 501, f"ReplicationSettingData.{name}")


# ---- waiting

@pytest.mark.parametrize("state", [2, 8])
def test_W4_nothing_flows_before_activate(array, pair, state):
    source, target = pair
    answer = array.client.method("CreateElementReplica", {"SyncType": 6, "SourceElement": source, "TargetElement": target,
                                                          "WaitForCopyState": state}, expect=200)
    assert array.client.get(answer["Synchronization"])["CopyState"] == state
    array.fill(source, 5, length=8192)
    assert array.writers(target, 0, 8192) == {None}
    job = array.modify(answer, "Activate", expect=202, WaitForCopyState=4)["Job"]
    array.client.completed(job, 30 * SLOWNESS)
    assert array.client.get(answer["Synchronization"])["CopyState"] == 4 and array.writers(target, 0, 8192) == {5}


@pytest.mark.parametrize("state", [5, 6, 7, 9, 10, 12, 15, 16])
def test_W3_other_states_cannot_be_waited_for(array, pair, state):
    source, target = pair
    array.client.refused("CreateElementReplica", {"SyncType": 6, "SourceElement": source, "TargetElement": target, "WaitForCopyState": state},
                         5, 400, "WaitForCopyState")


# ---- states

PATHS = {
    2: None, 8: ["Deactivate"], 4: [], 6: ["Fracture"], 7: ["Split"], 9: ["Suspend"], 10: ["Failover"], 11: ["Deactivate", "Prepare"],
    12: ["Deactivate", "Prepare", "Abort"],
}


@pytest.mark.parametrize("state", PATHS)
def test_S4_1_what_is_not_legal_is_refused_and_says_what_is(array, pair, state):
    """The legal operations of each state are those that the capabilities tell; every other one is 4, or needs Force."""
    source, target = pair
    if PATHS[state] is None:
        synchronization = array.client.method("CreateElementReplica", {"SyncType": 6, "SourceElement": source, "TargetElement": target,
                                                                       "WaitForCopyState": 2}, expect=200)["Synchronization"]
    else:
        synchronization = mirror(array, source, target)["Synchronization"]
        for operation in PATHS[state]:
            array.modify(synchronization, operation)
    shown = array.client.get(synchronization)
    assert shown["CopyState"] == state
    told = array.client.method("GetSupportedOperations", {"ReplicationType": 2, "CopyState": state})
    legal = [o for o, force in zip(told["SupportedOperations"], told["RequiresForce"]) if not force]
    assert shown["LegalOperations"] == legal
    for operation in set(array.client.method("GetSupportedOperations", {"ReplicationType": 2})["SupportedOperations"]) - set(legal):
        problem = array.client.refused(MODIFY, {"Synchronization": synchronization, "Operation": operation}, 4, 409, "Operation", "illegal_state")
        assert all(f"({o})" in problem["detail"] for o in legal)
        assert ("Force" in problem["detail"]) == (operation in told["SupportedOperations"])
    array.client.refused(MODIFY, {"Synchronization": synchronization, "Operation": 19}, 1, 501, "Operation")
    assert array.client.get(synchronization)["CopyState"] == state


@pytest.mark.parametrize("number,state", [(3, 6), (8, 9), (2, None)])
def test_the_old_numbers_do_the_same(array, pair, number, state):
    source, target = pair
    synchronization = mirror(array, source, target)["Synchronization"]
    array.client.method("ModifySynchronization", {"Operation": number, "Synchronization": synchronization}, expect=200)
    array.client.get(synchronization, expect=404 if state is None else 200)
    if state is not None:
        assert array.client.get(synchronization)["CopyState"] == state
        back = array.client.method("ModifySynchronization", {"Operation": 4 if state == 6 else 9, "Synchronization": synchronization}, expect=202)
        array.client.completed(back["Job"], 30 * SLOWNESS)


# ---- volumes in a mirror

def test_C10_a_connected_mirror_keeps_its_volumes_as_they_are(array, pair):
    source, target = pair
    snapshot = array.replica(source)
    synchronization = mirror(array, source, target)["Synchronization"]
    grow = {"TheElement": source, "Size": 8 * MIB}
    restore = {"Synchronization": snapshot["Synchronization"], "Operation": "Restore from Replica"}
    for volume in pair:
        assert array.delete(volume, expect=409)["BlockedOn"] == synchronization
    assert array.client.refused(ELEMENT, grow, 6, 409)["BlockedOn"] == synchronization
    assert array.client.refused(MODIFY, restore, 6, 409)["BlockedOn"] == synchronization
    array.fill(source, 6)
    # Parted, they can be anything; then everything differs.
    array.modify(synchronization, "Suspend")
    array.client.method(MODIFY, restore, expect=200)
    array.client.completed(array.modify(synchronization, "Resume", expect=202)["Job"], 30 * SLOWNESS)
    assert array.writers(source) == array.writers(target) == {None}
    array.modify(synchronization, "Suspend")
    array.client.method(ELEMENT, grow, expect=200)
    array.grow(target, 8 * MIB)
    array.client.completed(array.modify(synchronization, "Resume", expect=202)["Job"], 30 * SLOWNESS)
    array.fill(source, 7, offset=6 * MIB)
    assert array.writers(target, 6 * MIB) == {7}
    array.modify(synchronization, "Split")
    array.delete(target)
    array.client.get(synchronization, expect=404)
    array.fill(source, 8)
    assert array.writers(source) == {8}


@pytest.mark.parametrize("mode", [2, 3])
def test_a_mirror_grows_while_it_is_suspended(array, pair, mode):
    source, target = pair
    array.fill(source, 1, length=4 * MIB)
    answer = array.client.method("CreateElementReplica", {"SyncType": 6, "Mode": mode, "SourceElement": source, "TargetElement": target,
                                                          "WaitForCopyState": 4}, expect=202)
    array.client.completed(answer["Job"], 30 * SLOWNESS)
    synchronization = answer["Synchronization"]
    for volume in pair:
        problem = array.client.refused(ELEMENT, {"TheElement": volume, "Size": 8 * MIB}, 6, 409, "Size", "in_use")
        assert problem["BlockedOn"] == synchronization
        assert problem["detail"].index(f"make {target} larger") < problem["detail"].index(f"then {source}, and Resume")
    array.modify(synchronization, "Suspend")
    array.grow(source, 8 * MIB)
    for dry_run in ("true", "false"):
        problem = array.client.refused(MODIFY, {"Operation": "Resume", "Synchronization": synchronization}, 4, 422, "Synchronization",
                                       "target_too_small", query={"dryRun": dry_run})
    assert target in problem["detail"] and array.client.get(synchronization)["CopyState"] == 9
    array.grow(target, 8 * MIB)
    array.fill(source, 2, offset=5 * MIB)
    job = array.client.completed(array.modify(synchronization, "Resume", expect=202)["Job"], 30 * SLOWNESS)
    reaches(array, synchronization, 4)
    if mode == 3:
        assert job["Copies"][0]["BytesWritten"] <= 2 * MIB  # what is new, and nothing else
    array.modify(synchronization, "Split")
    assert array.client.get(target)["Size"] == 8 * MIB and array.content(source) == array.content(target)
    array.modify(synchronization, 8)


def test_a_target_can_be_cut_while_it_is_whole(array, pair):
    source, target = pair
    array.fill(source, 1)
    synchronization = mirror(array, source, target)["Synchronization"]
    snapshot = array.replica(target)["TargetElement"]
    array.fill(source, 2)
    assert array.writers(snapshot) == {1} and array.writers(target) == {2}
    array.modify(synchronization, "Suspend")
    array.client.refused("CreateElementReplica", {"SyncType": 7, "SourceElement": target}, 6, 409)


def test_the_job_ends_it(array, pair):
    source, target = pair
    array.fill(source, 1, length=4 * MIB)
    answer = array.client.method("CreateElementReplica", {"SyncType": 6, "SourceElement": source, "TargetElement": target,
                                                          "ReplicationSettingData": {"BandwidthLimit": 262144}}, expect=202)
    reaches(array, answer["Synchronization"], 3)
    array.client.post(f"{answer['Job']}/RequestStateChange", {"RequestedState": 3}, expect=501)
    array.client.post(f"{answer['Job']}/RequestStateChange", {"RequestedState": 4}, expect=(200, 202))
    assert array.client.wait(answer["Job"], 30 * SLOWNESS)["JobState"] == 8
    assert reaches(array, answer["Synchronization"], 12)["Job"] is None
    array.modify(answer, "Detach")


# ---- what would be done

def dry(array, synchronization, operation, **more):
    answer = array.client.post("/services/ReplicationService/ModifyReplicaSynchronization",
                               {"Synchronization": synchronization, "Operation": operation, **more}, query={"dryRun": "true"}, expect=200)
    assert answer["Job"] is None
    return answer["DryRun"]


@pytest.mark.parametrize("mode", [2, 3])
def test_a_dry_run_of_what_has_not_begun(array, pair, mode):
    source, target = pair
    body = {"SyncType": 6, "Mode": mode, "SourceElement": source, "TargetElement": target, "WaitForCopyState": 2}
    synchronization = array.client.method("CreateElementReplica", body, expect=200)["Synchronization"]
    told = dry(array, synchronization, "Activate")
    assert (told["CopyState"], told["Overwritten"], told["Reason"]) == (4, 3, "Full") and told["BytesToCopy"] == array.client.get(source)["Size"]
    array.modify(synchronization, "Abort")
    array.modify(synchronization, "Detach")


def test_a_dry_run_tells_and_changes_nothing(array, pair):
    source, target = pair
    array.fill(source, 1, length=4 * MIB)
    synchronization = mirror(array, source, target)["Synchronization"]
    assert dry(array, synchronization, "Fracture")["CopyState"] == 6
    array.modify(synchronization, "Fracture")
    array.fill(source, 2, length=65536)
    array.fill(target, 3, offset=3 * MIB, length=65536)
    before = array.smirror.records()
    told = dry(array, synchronization, "Resync Replica")
    assert told["CopyState"] == 4 and told["Overwritten"] == 3 and told["Reason"] == "Map"
    assert 131072 <= told["BytesToCopy"] <= 2 * MIB and 65536 <= told["BytesDiscarded"] <= MIB
    told = dry(array, synchronization, "Restore from Replica")
    assert told["Overwritten"] == 2 and 131072 <= told["BytesToCopy"] <= 2 * MIB and 65536 <= told["BytesDiscarded"] <= MIB
    assert dry(array, synchronization, "Detach")["CopyState"] == 15
    assert array.smirror.records() == before
    refused = array.client.post("/services/ReplicationService/ModifyReplicaSynchronization", {"Synchronization": synchronization, "Operation": 16},
                                query={"dryRun": "true"}, expect=409)
    assert refused["Code"] == "illegal_state"
    snapshot = array.replica(source)
    array.client.post("/services/ReplicationService/ModifyReplicaSynchronization",
                      {"Synchronization": snapshot["Synchronization"], "Operation": "Detach"}, query={"dryRun": "true"}, expect=501)
    wrong = array.client.post("/services/ReplicationService/ModifyReplicaSynchronization", {"Synchronization": synchronization, "Operation": 14},
                              query={"dryRun": "maybe"}, expect=400, wrong=True)
    assert wrong["Code"] == "bad_query"
