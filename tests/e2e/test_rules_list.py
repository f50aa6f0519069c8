# SPDX-License-Identifier: Apache-2.0
"""Rules L of CreateListReplica, one test for each, named after it."""

import pytest

import lun as luns
from process import MIB, SLOWNESS

CREATE = "CreateListReplica"


def create(world, sources, targets=None, **more):
    body = {"SyncType": 8, "SourceElements": sources, **more}
    if targets is not None:
        body["TargetElements"] = targets
    return world.client.method(CREATE, body, expect=202)


def volumes(world, count, size=MIB, **options):
    return [world.volume(size=size, **options) for _ in range(count)]


def path_of(world, volume):
    """The backing file of a volume."""
    return world.target.luns[int(world.client.get(volume)["Url"].rsplit("/", 1)[1])].path


def test_L1_the_sync_type_is_required_and_one_for_all(shared):
    sources, targets = volumes(shared, 1), volumes(shared, 1)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SourceElements": sources, "TargetElements": targets}, 5, 400, "SyncType", "missing_parameter",
                              wrong=True)
        shared.client.refused(CREATE, {"SyncType": [8], "SourceElements": sources, "TargetElements": targets}, 5, 400, "SyncType",
                              "wrong_type", wrong=True)
        for reserved in (5, 9, 0x8000):
            shared.client.refused(CREATE, {"SyncType": reserved, "SourceElements": sources, "TargetElements": targets}, 5, 400, "SyncType",
                                  wrong=True)


def test_L2_sources_are_required_and_not_empty(shared):
    with shared.unchanged():
        for body in ({"SyncType": 8}, {"SyncType": 8, "SourceElements": None}, {"SyncType": 8, "SourceElements": []}):
            shared.client.refused(CREATE, body, 5, 400, "SourceElements", wrong=True)
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": [None]}, 5, 400, wrong=True)


def test_L3_all_sources_are_of_one_class(shared):
    source = shared.volume(size=MIB)
    pool = shared.pool(shared.volume(size=MIB))
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": [source, pool]}, 5, 400, "SourceElements[1]", "wrong_class", wrong=True)


def test_L4_names_are_given_in_order_and_the_rest_are_made_up(shared):
    sources = volumes(shared, 3)
    pool = shared.pool(*volumes(shared, 3))
    answer = create(shared, sources, ElementNames=["first", "second"], TargetPool=pool)
    names = [shared.client.get(target)["ElementName"] for target in answer["TargetElements"]]
    assert names[:2] == ["first", "second"] and names[2] not in ("", "first", "second")
    shared.client.completed(answer["Job"])


def test_L5_too_many_names_are_invalid_and_empty_ones_are_made_up(shared):
    sources = volumes(shared, 3)
    pool = shared.pool(*volumes(shared, 3))
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": sources, "ElementNames": list("abcd"), "TargetPool": pool}, 5, 400,
                              "ElementNames")
    answer = create(shared, sources, ElementNames=["", None, "third"], TargetPool=pool)
    names = [shared.client.get(target)["ElementName"] for target in answer["TargetElements"]]
    assert names[2] == "third" and all(names) and len(set(names)) == 3
    shared.client.completed(answer["Job"])


def test_L6_targets_belong_to_sources_by_position(shared):
    source_luns = [shared.lun(MIB, "full") for _ in range(3)]
    for i, source_lun in enumerate(source_luns):
        luns.full(source_lun.path, MIB, writer=10 + i)
    sources = [shared.volume(source_lun) for source_lun in source_luns]
    targets = volumes(shared, 3)[::-1]
    answer = create(shared, sources, targets)
    assert answer["TargetElements"] == targets
    shared.client.completed(answer["Job"])
    for source_lun, target in zip(source_luns, targets):
        luns.assert_equal(source_lun.path, path_of(shared, target))


def test_L6_without_targets_one_is_made_for_each_source(shared):
    sources = volumes(shared, 2)
    pool = shared.pool(*volumes(shared, 2))
    answer = create(shared, sources, TargetPool=pool)
    assert len(set(answer["TargetElements"])) == 2
    assert all(shared.client.get(target)["Pool"] == pool for target in answer["TargetElements"])
    shared.client.completed(answer["Job"])


@pytest.mark.parametrize("n_sources,n_targets,action,taken", [
    (2, 1, None, None), (1, 2, None, None), (2, 1, 2, None), (2, 1, 4, None), (1, 2, 3, None), (3, 2, 3, 2), (2, 3, 4, 2)])
def test_L7_unequal_lists_are_invalid_unless_the_setting_allows_them(shared, n_sources, n_targets, action, taken):
    sources, targets = volumes(shared, n_sources), volumes(shared, n_targets)
    body = {"SyncType": 8, "SourceElements": sources, "TargetElements": targets}
    if action is not None:
        body["ReplicationSettingData"] = {"UnequalListsAction": action}
    if taken is None:
        with shared.unchanged():
            shared.client.refused(CREATE, body, 5, 400, "TargetElements")
    else:
        answer = shared.client.method(CREATE, body, expect=202)
        assert len(answer["Synchronizations"]) == taken
        assert [shared.client.get(s)["SyncedElement"] for s in answer["Synchronizations"]] == targets[:taken]
        shared.client.completed(answer["Job"])


@pytest.mark.parametrize("name", ["TargetSettingGoal", "TargetPool", "ElementNames"])
def test_L8_with_targets_there_is_no_goal_no_pool_and_no_names(shared, name):
    sources, targets = volumes(shared, 1), volumes(shared, 1)
    value = {"TargetSettingGoal": "/settings/default", "TargetPool": shared.pool(shared.volume(size=MIB)), "ElementNames": ["x"]}[name]
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": sources, "TargetElements": targets, name: value}, 5, 400, name)


def test_L9_the_pool_is_for_all_targets_and_too_small_a_pool_takes_none(shared):
    sources = volumes(shared, 3)
    members = volumes(shared, 2)
    pool = shared.pool(*members)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": sources, "TargetPool": pool}, 4, 507, code="no_space")
    assert all(shared.client.get(member)["Allocated"] is False for member in members)


def test_L10_what_is_not_marked_optional_may_be_null_all_the_same(shared):
    sources, targets = volumes(shared, 1), volumes(shared, 1)
    answer = create(shared, sources, targets, SourceAccessPoint=None, TargetAccessPoint=None, TargetSettingGoal=None, TargetPool=None,
                    ElementNames=None, Mode=None, Consistency=None, WaitForCopyState=None, Collections=None)
    shared.client.completed(answer["Job"])


def test_L11_the_state_is_waited_for_on_every_relationship(shared):
    sources = [shared.volume(size=MIB), shared.volume(size=4 * MIB, fill="full")]
    targets = [shared.volume(size=MIB), shared.volume(size=4 * MIB)]
    answer = create(shared, sources, targets, WaitForCopyState="Synchronized", Mode=3)
    shared.client.completed(answer["Job"])
    for synchronization in answer["Synchronizations"]:
        relationship = shared.client.get(synchronization)
        assert relationship["CopyState"] == 4 and relationship["Mode"] == 3


def test_L12_outputs_keep_the_order_and_are_complete(shared):
    sources, targets = volumes(shared, 5), volumes(shared, 5)
    answer = create(shared, sources, targets)
    assert answer["TargetElements"] == targets and len(answer["Synchronizations"]) == 5
    for i, synchronization in enumerate(answer["Synchronizations"]):
        relationship = shared.client.get(synchronization)
        assert (relationship["SystemElement"], relationship["SyncedElement"]) == (sources[i], targets[i])
    job = shared.client.completed(answer["Job"])
    assert [copy["TargetElement"] for copy in job["Copies"]] == targets
    assert job["JobOutParameters"]["TargetElements"] == targets
    assert job["JobOutParameters"]["Synchronizations"] == answer["Synchronizations"]


def test_L13_no_group_is_made(shared):
    answer = create(shared, volumes(shared, 2), volumes(shared, 2))
    shared.client.completed(answer["Job"])
    assert shared.client.get("/groups")["Total"] == 0
    assert shared.client.method("GetReplicationRelationships", {"Type": "GroupSynchronized"})["Synchronizations"] == []


def test_L14_there_is_one_job_for_the_list(shared):
    before = shared.client.get("/jobs")["Total"]
    answer = create(shared, volumes(shared, 4), volumes(shared, 4))
    assert shared.client.get("/jobs")["Total"] == before + 1
    job = shared.client.completed(answer["Job"])
    assert len(job["Copies"]) == 4 and job["BytesTotal"] == 4 * MIB


def test_L15_one_source_may_be_copied_to_several_targets_but_no_target_is_there_twice(shared):
    source_lun = shared.lun(MIB, "full")
    source = shared.volume(source_lun)
    targets = volumes(shared, 3)
    with shared.unchanged():
        problem = shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": [source, source], "TargetElements": [targets[0]] * 2}, 5, 400)
        assert problem["Parameter"].startswith("TargetElements")
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": [source], "TargetElements": [source]}, 5, 400)
    answer = create(shared, [source] * 3, targets)
    shared.client.completed(answer["Job"])
    for target in targets:
        luns.assert_equal(source_lun.path, path_of(shared, target))


def test_L16_everything_is_checked_before_anything_is_created(shared):
    sources = [shared.volume(size=MIB), shared.volume(size=2 * MIB)]
    targets = [shared.volume(size=MIB), shared.volume(size=MIB)]
    with shared.unchanged():
        problem = shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": sources, "TargetElements": targets}, 4, 422,
                                        code="target_too_small")
        assert problem["Parameter"] == "TargetElements[1]"
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": sources, "TargetElements": [targets[0], "/volumes/000000000000"]},
                              5, 400, "TargetElements[1]", "no_such_object")


@pytest.mark.parametrize("action,state,status", [(None, 10, [17, 6]), ("Stop", 10, [17, 6]), ("Continue", 7, [17, 3])])
def test_L16_one_copy_that_fails_stops_the_job_or_degrades_it(world, action, state, status):
    """The first target becomes another LUN while the array is away."""
    sources = [world.volume(size=4 * MIB, fill="full") for _ in range(2)]
    target_luns = [world.lun(4 * MIB) for _ in range(2)]
    targets = [world.volume(lun) for lun in target_luns]
    setting = {"BandwidthLimit": 2 * MIB}
    if action:
        setting["OnGroupOrListError"] = action
    answer = create(world, sources, targets, ReplicationSettingData=setting)
    world.client.until(answer["Job"], lambda job: job["BytesDone"] > 0, 20 * SLOWNESS)
    world.array.kill()
    target_luns[0].options["scsi_id"] = "smirror-test-another"
    target_luns[0].options["scsi_sn"] = "another"
    world.array.start()
    job = world.client.wait(answer["Job"], 60 * SLOWNESS)
    assert (job["JobState"], job["OperationalStatus"]) == (state, status), job
    relationships = [world.client.get(synchronization) for synchronization in answer["Synchronizations"]]
    assert relationships[0]["CopyState"] == 5
    # Both are listed, whatever became of them.
    assert set(targets) <= {affected["Element"] for affected in job["AffectedElements"]}
    if action == "Continue":
        assert relationships[1]["CopyState"] == 4
        luns.assert_equal(path_of(world, sources[1]), target_luns[1].path)
    else:
        assert job["ErrorCode"] != 0 and job["ErrorCodeText"] == "lun_changed"


def test_L17_sequential_consistency_is_for_what_shares_data(shared):
    sources, targets = volumes(shared, 2), volumes(shared, 2)
    with shared.unchanged():
        shared.client.refused(CREATE, {"SyncType": 8, "SourceElements": sources, "TargetElements": targets, "Consistency": 3}, 1, 501,
                              "Consistency")
    answer = create(shared, sources, targets, Consistency="No Consistency")
    assert answer["BarrierMicroseconds"] is None
    shared.client.completed(answer["Job"])
