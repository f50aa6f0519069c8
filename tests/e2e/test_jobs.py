# SPDX-License-Identifier: Apache-2.0
"""Jobs: facts that never lie, waiting, suspend and resume, terminate and kill, errors, removal."""

import json
import threading
import time

import pytest

import lun as luns
from client import Client
from process import MIB, SLOWNESS


def change(world, job, state, expect=(200, 202), **more):
    return world.client.post(f"{job}/RequestStateChange", {"RequestedState": state, **more}, expect=expect)


def test_wait_answers_when_the_job_ends(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 4 * MIB})
    began = time.monotonic()
    job = shared.client.call("GET", answer["Job"], query={"wait": "30s"}, expect=200)
    took = time.monotonic() - began
    assert job["JobState"] == 7 and took < 15 * SLOWNESS, (took, job.text)


def test_wait_answers_when_its_time_is_over(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target)
    for text, least in (("300ms", 0.3), ("1s", 1), ("0s", 0), ("0ms", 0)):
        began = time.monotonic()
        job = shared.client.call("GET", answer["Job"], query={"wait": text}, expect=200)
        took = time.monotonic() - began
        assert job["JobState"] == 4 and least <= took < least + 2 * SLOWNESS, (text, took)
    shared.terminate(answer["Job"])
    began = time.monotonic()
    shared.client.call("GET", answer["Job"], query={"wait": "30s"}, expect=200)
    assert time.monotonic() - began < 2 * SLOWNESS


@pytest.mark.parametrize("text", ["", "x", "30", "-1s", "1h", "1.5s", "1234567s", "s", "30 s"])
def test_a_wrong_wait_is_400(shared, text):
    shared.client.call("GET", "/jobs/none", query={"wait": text}, expect=(400, 404), wrong=True)
    _, source, _, target = shared.pair(MIB)
    answer = shared.clone(source, target, wait=True)
    problem = shared.client.call("GET", answer["Job"], query={"wait": text}, expect=400, wrong=True)
    assert problem["Code"] == "bad_query" and problem["Parameter"] == "wait"


def test_many_wait_at_once_and_none_blocks_the_others(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 2 * MIB})
    results = []

    def one():
        client = Client(shared.smirror.http, shared.client.token)
        results.append(client.call("GET", answer["Job"], query={"wait": "60s"}, expect=200, timeout=90)["JobState"])
        client.close()

    threads = [threading.Thread(target=one) for _ in range(100)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for _ in range(20):
        shared.client.get("/volumes")
        shared.client.method("GetPeerSystems", {})
    assert time.monotonic() - began < 5 * SLOWNESS
    for thread in threads:
        thread.join()
    assert results == [7] * 100


def test_progress_never_goes_back_and_adds_up(shared):
    _, source, _, target = shared.pair(8 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 4 * MIB})
    seen = []
    while True:
        job = shared.client.get(answer["Job"]).body
        seen.append(job)
        assert 0 <= job["PercentComplete"] <= 100
        assert job["CheckpointBytes"] <= job["BytesDone"] <= job["BytesTotal"] == 8 * MIB
        copy, = job["Copies"]
        for name in ("BytesTotal", "BytesDone", "BytesRead", "BytesWritten", "BytesZeroed", "BytesSkipped"):
            assert copy[name] == job[name]
        if job["JobState"] in (7, 8, 9, 10):
            break
        assert job["OperationalStatus"] == [2] and job["ErrorCode"] == 0 and job["JobOutParameters"] is None
        time.sleep(0.05)
    percents = [job["PercentComplete"] for job in seen]
    assert percents == sorted(percents) and len(set(percents)) > 3
    running = [job for job in seen if job["JobState"] == 4 and job["BytesDone"] > MIB]
    assert running and any(job["BytesPerSecond"] > 0 and job["EstimatedEnd"] for job in running)
    last = seen[-1]
    assert (last["JobState"], last["PercentComplete"], last["BytesDone"], last["CheckpointBytes"]) == (7, 100, 8 * MIB, 8 * MIB)
    assert last["BytesWritten"] + last["BytesZeroed"] + last["BytesSkipped"] >= 8 * MIB
    assert last["Phase"] == "Done" and last["StartTime"] and last["ElapsedTime"].startswith("PT")
    assert last["EstimatedEnd"] is None or last["EstimatedEnd"] >= last["StartTime"]


def test_the_estimated_end_is_near_the_end(shared):
    _, source, _, target = shared.pair(8 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 2 * MIB})
    job = shared.client.until(answer["Job"], lambda j: j["BytesDone"] >= 4 * MIB, 20 * SLOWNESS)
    ended = shared.client.completed(answer["Job"])

    def seconds(text):
        clock = text.split("T")[1].rstrip("Z").split(":")
        return int(clock[0]) * 3600 + int(clock[1]) * 60 + float(clock[2])

    off = (seconds(job["EstimatedEnd"]) - seconds(ended["TimeOfLastStateChange"])) % 86400
    assert min(off, 86400 - off) < 2 * SLOWNESS, (job["EstimatedEnd"], ended["TimeOfLastStateChange"])


def test_suspend_stops_the_flow_and_start_goes_on(shared):
    source_lun, source, target_lun, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target)
    job = answer["Job"]
    shared.client.until(job, lambda j: j["BytesDone"] > 0, 20 * SLOWNESS)
    assert change(shared, job, "Suspend")["ReturnValue"] in (0, 4096)
    suspended = shared.client.until(job, lambda j: j["JobState"] == 5, 10 * SLOWNESS)
    assert suspended["Phase"] == "Suspended"
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["CopyState"] in (3, 9) and relationship["ProgressStatusText"] == "Dormant"
    assert change(shared, job, "Suspend").status == 200
    done = shared.client.get(job)["BytesDone"]
    time.sleep(1.0)
    assert shared.client.get(job)["BytesDone"] == done
    assert change(shared, job, "Start")["ReturnValue"] in (0, 4096)
    shared.client.until(job, lambda j: j["JobState"] == 4 and j["BytesDone"] > done, 20 * SLOWNESS)
    assert shared.client.get(answer["Synchronization"])["CopyState"] == 3
    shared.terminate(job)


def test_a_suspended_job_stays_so_over_restarts_and_then_goes_on(world):
    source_lun, source, target_lun, target = world.pair(4 * MIB)
    answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": MIB})
    job = answer["Job"]
    world.client.until(job, lambda j: j["BytesDone"] > 0, 20 * SLOWNESS)
    change(world, job, "Suspend")
    world.client.until(job, lambda j: j["JobState"] == 5, 10 * SLOWNESS)
    world.smirror.restart()
    time.sleep(0.3)
    assert world.client.get(job)["JobState"] == 5
    change(world, job, "Start")
    world.client.completed(job)
    luns.assert_equal(source_lun.path, target_lun.path)


@pytest.mark.parametrize("state,ended", [("Terminate", 8), ("Kill", 9)])
@pytest.mark.parametrize("when", ["running", "suspended"])
def test_terminate_and_kill_end_the_job(shared, state, ended, when):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target)
    job = answer["Job"]
    if when == "suspended":
        change(shared, job, "Suspend")
        shared.client.until(job, lambda j: j["JobState"] == 5, 10 * SLOWNESS)
    got = change(shared, job, state)
    if got.status == 202:
        assert got["ReturnValue"] == 4096 and got["Job"] == job and got.location == job
    body = shared.client.wait(job, 10 * SLOWNESS)
    assert body["JobState"] == ended and body["ErrorCode"] != 0 and body["Phase"] == "Cancelled"
    assert body["PercentComplete"] < 100
    assert shared.client.get(answer["Synchronization"])["CopyState"] == 12
    for other in ("Start", "Suspend", "Terminate", "Kill"):
        problem = shared.client.post(f"{job}/RequestStateChange", {"RequestedState": other}, expect=(200, 409))
        if problem.status == 409:
            assert problem["ReturnValue"] == 4097 and problem["Code"] == "invalid_state_transition"


def test_a_timeout_and_the_service_state_are_refused(shared):
    _, source, _, target = shared.pair(4 * MIB)
    job = shared.slow_clone(source, target)["Job"]
    problem = change(shared, job, 4, expect=422, TimeoutPeriod="PT30S")
    assert problem["ReturnValue"] == 4098
    problem = change(shared, job, 6, expect=501)
    assert problem["ReturnValue"] == 1
    assert shared.client.get(job)["JobState"] == 4
    shared.terminate(job)


def test_errors_are_empty_for_a_job_that_runs_or_ended_well(shared):
    _, source, _, target = shared.pair(4 * MIB)
    job = shared.clone(source, target, ReplicationSettingData={"BandwidthLimit": 4 * MIB})["Job"]
    assert shared.client.post(f"{job}/GetErrors", {}, expect=200)["Errors"] == []
    shared.client.completed(job)
    assert shared.client.post(f"{job}/GetErrors", {}, expect=200)["Errors"] == []


def test_a_job_that_ended_can_be_deleted_and_a_running_one_not(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target)
    problem = shared.client.delete(answer["Job"], expect=409)
    assert problem.get("BlockedOn") in (None, answer["Job"])
    shared.terminate(answer["Job"])
    shared.client.delete(answer["Job"])
    shared.client.get(answer["Job"], expect=404)
    shared.client.delete(answer["Job"], expect=404)
    shared.client.post(f"{answer['Job']}/GetErrors", {}, expect=404)
    shared.client.post(f"{answer['Job']}/RequestStateChange", {"RequestedState": 4}, expect=404)


def test_a_job_tells_how_long_it_is_kept(make_world):
    world = make_world("--job-keep", "90s")
    _, source, _, target = world.pair(MIB)
    job = world.client.get(world.clone(source, target, wait=True)["Job"])
    assert job["TimeBeforeRemoval"] in ("PT90S", "PT1M30S") and job["DeleteOnCompletion"] is False


def test_filters_of_jobs_and_relationships(shared):
    _, source, _, target = shared.pair(4 * MIB)
    shared.terminate(*[job["self"] for job in shared.client.list("/jobs", JobState="Running")])
    answer = shared.slow_clone(source, target)
    assert [job["self"] for job in shared.client.list("/jobs", JobState="Running")] == [answer["Job"]]
    assert answer["Job"] in [job["self"] for job in shared.client.list("/jobs", Name="CreateElementReplica",
                                                                       Owner="/services/ReplicationService")]
    assert [s["self"] for s in shared.client.list("/synchronizations", Job=answer["Job"])] == [answer["Synchronization"]]
    assert [s["self"] for s in shared.client.list("/synchronizations", CopyState=3)] == [answer["Synchronization"]]
    assert answer["Synchronization"] in [s["self"] for s in shared.client.list("/synchronizations", SyncType="Clone", Mode=2, CopyType=5)]
    found = shared.client.method("GetReplicationRelationships", {"CopyState": "Unsynchronized", "SyncType": 8, "Locality": 3})
    assert found["Synchronizations"] == [answer["Synchronization"]]
    instances = shared.client.method("GetReplicationRelationshipInstances", {"CopyState": "Unsynchronized", "SyncType": 8, "Locality": 3})
    assert [each["self"] for each in instances["Synchronizations"]] == found["Synchronizations"]
    for each in instances["Synchronizations"]:
        now = shared.client.get(each["self"]).body
        assert {**each, "PercentSynced": 0} == {**now, "PercentSynced": 0}  # a copy runs
    assert shared.client.method("GetReplicationRelationshipInstances", {"Locality": 2})["Synchronizations"] == []
    assert shared.client.method("GetReplicationRelationships", {"Locality": 2})["Synchronizations"] == []
    assert shared.client.method("GetReplicationRelationships", {"SyncType": 6})["Synchronizations"] == []
    shared.terminate(answer["Job"])


def test_copies_beyond_the_limit_wait_in_their_order(make_world):
    world = make_world("--copies-at-once", "1")
    pairs = [world.pair(2 * MIB) for _ in range(3)]
    answers = [world.clone(source, target, ReplicationSettingData={"BandwidthLimit": 4 * MIB}) for _, source, _, target in pairs]
    phases = [world.client.get(answer["Job"])["Phase"] for answer in answers]
    assert phases[2] == "Queued", phases
    ended = [world.client.completed(answer["Job"], 60 * SLOWNESS) for answer in answers]
    times = [job["TimeOfLastStateChange"] for job in ended]
    assert times == sorted(times)
    for source_lun, _, target_lun, _ in pairs:
        luns.assert_equal(source_lun.path, target_lun.path)


def test_priority_is_kept_and_shown(shared):
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.clone(source, target, ReplicationSettingData={"CopyPriority": "Urgent", "BandwidthLimit": 512 << 10})
    assert shared.client.get(answer["Job"])["CopyPriorityText"] == "Urgent"
    relationship = shared.client.get(answer["Synchronization"])
    assert relationship["CopyPriority"] == 4 and relationship["BandwidthLimit"] == 512 << 10
    shared.terminate(answer["Job"])


def test_the_job_tells_of_a_lost_array_while_it_tries(world):
    source_lun, source, target_lun, target = world.pair(4 * MIB)
    answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": MIB})
    world.client.until(answer["Job"], lambda j: j["BytesDone"] > 0, 20 * SLOWNESS)
    world.array.kill()
    job = world.client.until(answer["Job"], lambda j: j["Attempts"] >= 2, 30 * SLOWNESS)
    assert job["JobState"] == 4 and job["Phase"] == "Retry" and job["LastError"] and job["LastErrorTime"], json.dumps(job)
    world.array.start()
    job = world.client.completed(answer["Job"], 60 * SLOWNESS)
    assert job["Attempts"] >= 2 and job["LastError"]
    luns.assert_equal(source_lun.path, target_lun.path)


def test_giving_up_is_policy_and_ends_broken(make_world):
    world = make_world("--copy-give-up", "1s")
    _, source, _, target = world.pair(4 * MIB)
    answer = world.slow_clone(source, target)
    world.client.until(answer["Job"], lambda j: j["BytesDone"] > 0, 20 * SLOWNESS)
    world.array.kill()
    job = world.client.wait(answer["Job"], 30 * SLOWNESS)
    assert job["JobState"] == 10 and job["OperationalStatus"] == [17, 6] and job["ErrorCode"] == 4 and job["Phase"] == "Broken"
    assert job["ErrorDescription"] and job["LastError"]
    errors = world.client.post(f"{answer['Job']}/GetErrors", {}, expect=200)["Errors"]
    assert errors[0]["MessageID"] == job["ErrorCodeText"]
    assert world.client.get(answer["Synchronization"])["CopyState"] == 5
    world.array.start()
    again = world.client.method("ModifyReplicaSynchronization", {"Operation": 14, "Synchronization": answer["Synchronization"]}, expect=202)
    world.terminate(again["Job"])
