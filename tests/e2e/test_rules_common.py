# SPDX-License-Identifier: Apache-2.0
"""Rules C (common) and W (WaitForCopyState) of the SMI-S semantics, one test for each, named after it."""

import json

import pytest

import lun as luns
from contract import contract
from process import MIB, SLOWNESS, until

CREATE = "CreateElementReplica"
CLONE_REMOTE = 12  # ReplicationType: Synchronous Clone Remote


def capability(shared, operation=None, method=2):
    body = {"ReplicationType": CLONE_REMOTE, "MethodName": method}
    if operation:
        body["Operation"] = operation
    return shared.client.method("GetSupportedWaitForCopyStates", body)["SupportedCopyStates"]


def test_C1_null_and_absent_are_equal_and_an_empty_text_is_neither(shared):
    _, source, _, target = shared.pair(MIB)
    nulls = {name: None for name in ("ElementName", "Mode", "SourceAccessPoint", "TargetAccessPoint", "ReplicationSettingData",
                                     "TargetSettingGoal", "TargetPool", "WaitForCopyState", "ConnectivityCollection", "Collections")}
    answer = shared.client.method(CREATE, {"SyncType": 8, "SourceElement": source, "TargetElement": target, **nulls}, expect=202)
    shared.client.completed(answer["Job"])
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElement": source, "TargetElement": target, "TargetPool": ""}, 5, 400,
                              "TargetPool", wrong=True)
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElement": source, "TargetElement": target, "WaitForCopyState": ""}, 5, 400,
                              "WaitForCopyState", wrong=True)


def test_C2_return_value_0_means_done_and_leaves_no_job(shared):
    _, source, _, target = shared.pair(MIB)
    done = shared.clone(source, target, wait=True)
    jobs = shared.client.get("/jobs")["Total"]
    answer = shared.client.method("ModifyReplicaSynchronization", {"Operation": "Detach", "Synchronization": done["Synchronization"]},
                                  expect=200)
    assert answer["ReturnValue"] == 0 and answer["Job"] is None and answer.location is None
    shared.client.get(done["Synchronization"], expect=404)
    assert shared.client.get("/jobs")["Total"] == jobs


def test_C3_return_value_4096_means_exactly_one_job_and_names_it(shared):
    _, source, _, target = shared.pair(MIB)
    before = {job["self"] for job in shared.client.list("/jobs")}
    answer = shared.clone(source, target)
    assert answer["ReturnValue"] == 4096 and answer.location == answer["Job"]
    after = {job["self"] for job in shared.client.list("/jobs")}
    assert after - before == {answer["Job"]}
    assert shared.client.completed(answer["Job"])["Name"] == CREATE


def test_C4_a_call_that_fails_has_created_nothing(shared):
    big, small = shared.volume(size=2 * MIB), shared.volume(size=MIB)
    free, free_too = shared.volume(size=MIB), shared.volume(size=MIB)
    with shared.unchanged():
        for name, body in ((CREATE, {"SyncType": 8, "SourceElement": big, "TargetElement": small}),
                           (CREATE, {"SyncType": 6, "SourceElement": small, "TargetElement": big}),
                           ("AttachReplica", {"SourceElement": big, "TargetElement": small, "CopyType": 4}),
                           ("AttachOrModifyReplica", {"SourceElement": big, "TargetElement": small, "CopyType": 5,
                                                      "Goal": {"BandwidthLimit": 1000000}}),
                           ("CreateListReplica", {"SyncType": 8, "SourceElements": [small, big], "TargetElements": [free, free_too]}),
                           ("CreateReplica", {"SourceElement": big, "CopyType": 5})):
            answer = shared.client.method(name, body, expect=(422, 501, 507))
            assert "Job" not in answer.body and "TargetElement" not in answer.body


def test_C5_return_value_1_is_a_combination_that_is_not_there_without_side_effect(shared):
    _, source, _, target = shared.pair(MIB)
    with shared.unchanged():
        for name, body, parameter in (
                (CREATE, {"SyncType": "Mirror", "SourceElement": source, "TargetElement": target}, "SourceElement"),
                (CREATE, {"SyncType": "Snapshot", "SourceElement": source, "TargetElement": target}, "SourceElement"),
                ("CreateListReplica", {"SyncType": 6, "SourceElements": [source], "TargetElements": [target]}, "SourceElements[0]"),
                ("CreateReplica", {"SourceElement": source, "CopyType": 3}, "SourceElement"),
                ("AttachReplica", {"SourceElement": source, "TargetElement": target, "CopyType": 3}, "SourceElement"),
                ("AttachOrModifyReplica", {"SourceElement": source, "TargetElement": target, "CopyType": "Sync"}, "SourceElement"),
                ("AddReplicationEntity", {"ReplicationEntity": {"Type": 7, "EntityID": "50:01:43:80:00:00:00:01"}},
                 "ReplicationEntity.Type")):
            shared.client.refused(name, body, 1, 501, parameter)


def test_C6_job_or_no_job_is_as_the_capabilities_say(shared):
    capabilities = shared.client.get("/services/ReplicationServiceCapabilities")
    later, at_once = capabilities["SupportedAsynchronousActions"], capabilities["SupportedSynchronousActions"]
    names = {name: int(number) for number, name in contract().enums["ReplicationAction"].items()}
    _, source, _, target = shared.pair(MIB)
    other_source, other_target = shared.volume(size=MIB), shared.volume(size=MIB)
    calls = {
        "CreateElementReplica": {"SyncType": 8, "SourceElement": source, "TargetElement": target},
        "CreateListReplica": {"SyncType": 8, "SourceElements": [other_source], "TargetElements": [other_target]},
        "GetAvailableTargetElements": {"SyncType": 8, "SourceElement": source},
        "GetPeerSystems": {}, "GetReplicationRelationships": {}, "GetReplicationRelationshipInstances": {},
        "GetServiceAccessPoints": {"System": "/systems/local"},
        "AddReplicationEntity": {"ReplicationEntity": {"Type": 8, "EntityID": shared.lun().url}},
        "AddServiceAccessPoint": {"ServiceAccessPoint": {"AccessInfo": "127.1.1.1"}},
        "AddSharedSecret": {"SharedSecret": {"RemoteID": "u", "Secret": "secretsecret1"}},
    }
    for name, body in calls.items():
        answer = shared.client.method(name, body)
        listed = {202: later, 200: at_once}[answer.status]
        assert names[name] in listed, f"{name} answered {answer.status}"
    # Nothing is announced that is not there.
    missing = set(contract().document["x-unsupported-methods"]["ReplicationService"])
    for number in set(later) | set(at_once):
        assert contract().enums["ReplicationAction"][str(number)] not in missing
    shared.settle()


def test_C7_targets_are_reachable_from_the_job_and_come_first(shared):
    _, source, _, target = shared.pair(MIB)
    answer = shared.clone(source, target)
    assert answer["TargetElement"] == target and answer["Synchronization"]
    job = shared.client.completed(answer["Job"])
    elements = [affected["Element"] for affected in job["AffectedElements"]]
    assert elements[0] == target
    volumes = [element for element in elements if element.startswith("/volumes/")]
    assert volumes[0] == target
    assert job["JobOutParameters"]["ReturnValue"] == 0
    assert job["JobOutParameters"]["TargetElement"] == target
    assert job["JobOutParameters"]["Synchronization"] == answer["Synchronization"]


@pytest.mark.parametrize("parameter,value", [("SyncType", 0), ("SyncType", 5), ("SyncType", 9), ("SyncType", 0x8000), ("Mode", 0),
                                             ("Mode", 4), ("Mode", 65535), ("WaitForCopyState", 18), ("WaitForCopyState", 1)])
def test_C8_reserved_and_vendor_values_are_invalid(shared, parameter, value):
    body = {"SyncType": 8, "SourceElement": shared.volume(size=MIB), "TargetElement": shared.volume(size=MIB), parameter: value}
    with shared.unchanged():
        shared.client.refused(CREATE, body, 5, 400, parameter, wrong=True)


def test_C9_a_reference_to_nothing_or_to_another_class_is_invalid_and_named(shared):
    source = shared.volume(size=MIB)
    with shared.unchanged():
        for wrong in ("/volumes/000000000000", "/systems/local"):
            shared.client.refused(CREATE, {"SyncType": 8, "SourceElement": wrong, "TargetElement": source}, 5, 400, "SourceElement", wrong=True)
            shared.client.refused(CREATE, {"SyncType": 8, "SourceElement": source, "TargetElement": wrong}, 5, 400, "TargetElement", wrong=True)


def test_C10_an_element_that_another_job_changes_is_in_use_and_the_job_is_named(shared):
    _, source, _, target = shared.pair(4 * MIB)
    _, other, _, free = shared.pair(4 * MIB)
    busy = shared.slow_clone(source, target)
    try:
        with shared.unchanged("copies", "jobs"):
            for body in ({"SyncType": 8, "SourceElement": other, "TargetElement": target},
                         {"SyncType": 8, "SourceElement": target, "TargetElement": free}):
                problem = shared.client.refused(CREATE, body, 6, 409, code="in_use")
                assert problem["BlockedOn"] in (busy["Job"], busy["Synchronization"])
            problem = shared.client.refused("ModifyReplicaSynchronization",
                                            {"Operation": "Resync Replica", "Synchronization": busy["Synchronization"]},
                                            4, 409, code="illegal_state")
        shared.client.delete(target, expect=409)
        shared.client.delete(source, expect=409)
        shared.client.delete(busy["Job"], expect=409)
    finally:
        shared.terminate(busy["Job"])


def test_C11_an_element_that_does_not_suit_is_failed(shared):
    big, small = shared.volume(size=2 * MIB), shared.volume(size=MIB)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElement": big, "TargetElement": small}, 4, 422, "TargetElement",
                              "target_too_small")


def test_C13_names_are_no_keys_and_may_be_there_twice(shared):
    pools = [shared.pool(shared.volume(size=MIB), name="twin") for _ in range(2)]
    assert pools[0] != pools[1]
    assert {member["self"] for member in shared.client.list("/pools", ElementName="twin")} == set(pools)
    source = shared.volume(size=MIB)
    answers = [shared.clone(source, ElementName="copy", TargetPool=pool, wait=True) for pool in pools]
    assert len({answer["TargetElement"] for answer in answers}) == 2
    assert len(shared.client.list("/volumes", ElementName="copy")) == 2


def test_C14_a_name_of_ours_is_not_empty_and_unique(shared):
    source = shared.volume(size=MIB)
    pool = shared.pool(*[shared.volume(size=MIB) for _ in range(3)])
    names = set()
    for _ in range(3):
        answer = shared.clone(source, TargetPool=pool, wait=True)
        names.add(shared.client.get(answer["TargetElement"])["ElementName"])
    assert len(names) == 3 and "" not in names
    pools = {shared.client.get(shared.pool(shared.volume(size=MIB)))["ElementName"] for _ in range(3)}
    assert len(pools) == 3 and "" not in pools


def test_C15_the_name_is_there_when_the_call_is_answered(shared):
    pool = shared.pool(shared.volume(size=4 * MIB))
    answer = shared.clone(shared.volume(size=4 * MIB, fill="full"), TargetPool=pool, ElementName="named at once",
                          ReplicationSettingData={"BandwidthLimit": 256 << 10})
    assert shared.client.get(answer["TargetElement"])["ElementName"] == "named at once"
    shared.terminate(answer["Job"])


# ---- WaitForCopyState

def test_W1_without_it_the_call_returns_with_the_association_formed_and_the_copy_under_way(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 128 << 10})
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["SystemElement"] == source and relationship["SyncedElement"] == target
    assert relationship["CopyState"] in (2, 3) and relationship["Job"] == answer["Job"]
    assert shared.copying(answer["Synchronization"])["CopyState"] == 3
    shared.client.until(answer["Job"], lambda job: job["BytesDone"] > 0, 20)
    shared.terminate(answer["Job"])


@pytest.mark.parametrize("state,reached", [(3, (3, 4)), (4, (4,))])
def test_W2_the_job_is_not_done_before_the_state_is_reached(shared, state, reached):
    source_lun, source, target_lun, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, WaitForCopyState=state)
    job = shared.client.completed(answer["Job"])
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["CopyState"] in reached, json.dumps(job)
    if state == 4:
        luns.assert_equal(source_lun.path, target_lun.path)
    shared.client.until(answer["Synchronization"], lambda r: r["CopyState"] == 4 and r["Job"] is None, 20)


def test_W3_only_the_states_that_the_capabilities_list_are_taken(shared):
    allowed = capability(shared)
    assert 4 in allowed
    source, target = shared.volume(size=MIB), shared.volume(size=MIB)
    for number in contract().enums["CopyState"]:
        if int(number) not in allowed:
            with shared.unchanged():
                shared.client.refused(CREATE, {"SyncType": 8, "SourceElement": source, "TargetElement": target,
                                               "WaitForCopyState": int(number)}, 5, 400, "WaitForCopyState")
                shared.client.refused("CreateListReplica", {"SyncType": 8, "SourceElements": [source], "TargetElements": [target],
                                                            "WaitForCopyState": int(number)}, 5, 400, "WaitForCopyState")
    done = shared.clone(source, target, wait=True)
    for operation in (8, 14):
        allowed = capability(shared, operation, method=4)
        assert allowed
        for number in contract().enums["CopyState"]:
            if int(number) not in allowed:
                with shared.unchanged():
                    shared.client.refused("ModifyReplicaSynchronization",
                                          {"Operation": operation, "Synchronization": done["Synchronization"],
                                           "WaitForCopyState": int(number)}, 5, 400, "WaitForCopyState")


@pytest.mark.parametrize("state", [2, 8])
def test_W4_waiting_for_initialized_or_inactive_leaves_the_target_alone_until_activate(shared, state):
    if state not in capability(shared):
        pytest.skip(f"CopyState {state} cannot be waited for in this version")
    source_lun, source, target_lun, target = shared.pair(MIB, target_fill="dirty")
    answer = shared.client.method(CREATE, {"SyncType": 8, "SourceElement": source, "TargetElement": target, "WaitForCopyState": state})
    if answer.status == 202:
        shared.client.completed(answer["Job"])
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["CopyState"] == state
    assert 4 in relationship["LegalOperations"]
    luns.assert_byte(target_lun.path, 0xdb, 0, MIB)
    activated = shared.client.method("ModifyReplicaSynchronization",
                                     {"Operation": "Activate", "Synchronization": answer["Synchronization"]})
    shared.client.completed(activated["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)
    assert shared.client.get(answer["Synchronization"])["CopyState"] == 4


def test_W5_a_state_that_is_passed_already_is_reached(shared):
    """Waiting for 3 with an empty LUN, which is copied before anybody looks."""
    answer = shared.clone(shared.volume(size=MIB), shared.volume(size=MIB), WaitForCopyState=3)
    shared.client.completed(answer["Job"])
    shared.client.until(answer["Synchronization"], lambda r: r["CopyState"] == 4, 20)


def test_W6_the_requested_state_is_shown_and_returns_to_15(shared):
    _, source, _, target = shared.pair(2 * MIB)
    answer = shared.clone(source, target, WaitForCopyState=4, ReplicationSettingData={"BandwidthLimit": MIB})
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["RequestedCopyState"] == 4 and relationship["RequestedCopyStateText"] == "Synchronized"
    shared.client.completed(answer["Job"])
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["RequestedCopyState"] == 15 and relationship["CopyState"] == 4


def test_W7_a_state_that_cannot_be_reached_any_more_ends_the_job_with_an_error(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target, WaitForCopyState=4)
    job, = shared.terminate(answer["Job"])
    assert job["JobState"] == 8 and job["ErrorCode"] != 0 and job["ErrorDescription"]
    assert job["OperationalStatus"][0] != 17 or job["OperationalStatus"] != [17, 2]
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["CopyState"] == 12 and relationship["RequestedCopyState"] == 15
    errors = shared.client.post(f"{answer['Job']}/GetErrors", {}, expect=200)["Errors"]
    assert errors and errors[0]["MessageID"] and errors[0]["Message"]


def test_W9_windows_sends_4_and_a_detach_takes_15(shared):
    _, source, _, target = shared.pair(MIB)
    answer = shared.clone(source, target, WaitForCopyState=4, wait=True)
    shared.client.method("ModifyReplicaSynchronization", {"Operation": 8, "Synchronization": answer["Synchronization"],
                                                          "WaitForCopyState": 15, "Force": True}, expect=(200, 202))
    until(lambda: shared.synchronization(source, target) is None, 10 * SLOWNESS, "the relationship is gone")
