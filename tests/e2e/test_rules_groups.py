# SPDX-License-Identifier: Apache-2.0
"""Rules G of CreateGroupReplica, one test for each, named after it."""

import threading

import pytest

from hosted import Hosted
from process import SLOWNESS, until

MIB = 1 << 20
CREATE = "CreateGroupReplica"


@pytest.fixture(scope="module")
def hosted(shared):
    return Hosted(shared.smirror)


class Groups:
    """Groups of hosted volumes of one MiB."""

    def __init__(self, hosted):
        self.hosted = hosted
        self.client = hosted.client

    def volumes(self, n=2, size=MIB):
        return [self.hosted.make(size) for _ in range(n)]

    def group(self, n=2, size=MIB, **more):
        return self.of(self.volumes(n, size), **more)

    def of(self, members, **more):
        return self.client.method("CreateGroup", {"Members": list(members), **more}, expect=200)["ReplicationGroup"]

    def members(self, group):
        return self.client.get(group)["Members"]

    def create(self, expect=200, **body):
        return self.client.method(CREATE, {"SyncType": 7, **body}, expect=expect)

    def pairs(self, answer):
        shown = self.client.get(answer["Synchronization"])
        return [self.client.get(each) for each in shown["Synchronizations"]]

    def names(self, group):
        return [self.client.get(each)["ElementName"] for each in self.members(group)]


@pytest.fixture(scope="module")
def groups(hosted):
    return Groups(hosted)


def refused(groups, shared, body, return_value, status, parameter=None, code=None, wrong=False):
    with shared.unchanged():
        return groups.client.refused(CREATE, body, return_value, status, parameter, code, wrong=wrong)


def test_G1_the_sync_type_is_required_and_one_of_those_there_are(groups, shared):
    source = groups.group()
    refused(groups, shared, {"SourceGroup": source}, 5, 400, "SyncType", "missing_parameter", wrong=True)
    for reserved in (0, 5, 9, 0x7fff, 0x8000):
        refused(groups, shared, {"SyncType": reserved, "SourceGroup": source}, 5, 400, "SyncType", wrong=True)


def test_G2_the_mode_may_be_left_to_us(groups, shared):
    for mode, shown in ((None, 2), (2, 2), (3, 3)):
        answer = groups.create(SourceGroup=groups.group(), Mode=mode)
        assert groups.client.get(answer["Synchronization"])["Mode"] == shown
        assert {pair["Mode"] for pair in groups.pairs(answer)} == {shown}
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(), "Mode": 4}, 5, 400, "Mode", wrong=True)


def test_G3_there_is_a_source_group_or_a_source_element(groups, shared):
    source, element = groups.group(), groups.volumes(1)[0]
    refused(groups, shared, {"SyncType": 7, "SourceGroup": source, "SourceElement": element}, 5, 400, "SourceElement")
    refused(groups, shared, {"SyncType": 7}, 5, 400, "SourceGroup", "missing_parameter")


def test_G4_a_target_group_and_a_count_exclude_each_other(groups, shared):
    element, target = groups.volumes(1)[0], groups.group(0)
    refused(groups, shared, {"SyncType": 7, "SourceElement": element, "TargetGroup": target, "TargetElementCount": 1}, 5, 400,
            "TargetElementCount")


@pytest.mark.parametrize("count", [0, 1025, (1 << 64) - 1])
def test_G5_a_count_is_for_one_source_and_not_zero(groups, shared, count):
    refused(groups, shared, {"SyncType": 7, "SourceElement": groups.volumes(1)[0], "TargetElementCount": count}, 5, 400,
            "TargetElementCount")
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(), "TargetElementCount": 2}, 5, 400, "TargetElementCount")


@pytest.mark.parametrize("count,made", [(None, 1), (1, 1), (3, 3)])
def test_G6_one_source_gets_as_many_targets_as_asked_for_in_a_new_group(groups, count, made):
    element = groups.volumes(1)[0]
    answer = groups.create(SourceElement=element, TargetElementCount=count)
    shown = groups.client.get(answer["Synchronization"])
    assert shown["SystemElement"] == element and shown["SyncedElement"] == answer["TargetGroup"]
    pairs = groups.pairs(answer)
    assert len(pairs) == made and {pair["SystemElement"] for pair in pairs} == {element}
    assert [pair["SyncedElement"] for pair in pairs] == groups.members(answer["TargetGroup"])


def test_G7_without_a_target_group_one_is_made_in_the_same_order(groups):
    source = groups.group(3)
    answer = groups.create(SourceGroup=source)
    pairs = groups.pairs(answer)
    assert [pair["SystemElement"] for pair in pairs] == groups.members(source)
    assert [pair["SyncedElement"] for pair in pairs] == groups.members(answer["TargetGroup"])
    assert groups.client.get(source)["AsSource"] == [answer["Synchronization"]]
    assert groups.client.get(answer["TargetGroup"])["AsTarget"] == [answer["Synchronization"]]


@pytest.mark.parametrize("n_sources,n_targets,action,taken", [
    (2, 1, None, None), (1, 2, None, None), (2, 1, 2, None), (2, 1, 4, None), (1, 2, 3, None), (3, 2, 3, 2), (2, 3, 4, 2)])
def test_G8_unequal_groups_are_invalid_unless_the_setting_allows_them(groups, shared, n_sources, n_targets, action, taken):
    body = {"SyncType": 7, "SourceGroup": groups.group(n_sources), "TargetGroup": groups.group(n_targets)}
    if action is not None:
        body["ReplicationSettingData"] = {"UnequalGroupsAction": action}
    if taken is None:
        refused(groups, shared, body, 5, 400, "TargetGroup")
    else:
        answer = groups.create(**body)
        assert len(groups.pairs(answer)) == taken
        assert len(groups.members(body["TargetGroup"])) == n_targets


def test_G8_one_source_and_many_targets_need_no_setting(groups):
    element, target = groups.volumes(1)[0], groups.group(3)
    answer = groups.create(SourceElement=element, TargetGroup=target)
    assert [pair["SyncedElement"] for pair in groups.pairs(answer)] == groups.members(target)


def test_G9_targets_are_made_into_an_empty_target_group(groups):
    target = groups.group(0)
    answer = groups.create(SourceGroup=groups.group(2), TargetGroup=target)
    assert answer["TargetGroup"] == target
    assert [pair["SyncedElement"] for pair in groups.pairs(answer)] == groups.members(target) != []


@pytest.mark.parametrize("name,value", [("TargetPool", "/pools/default"), ("TargetSettingGoal", "/settings/default")])
def test_G10_with_targets_nothing_says_how_to_make_them(groups, shared, name, value):
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(), "TargetGroup": groups.group(), name: value}, 5, 400, name)


def test_G11_G12_pool_and_setting_are_references(groups, shared):
    source = groups.group()
    answer = groups.create(SourceGroup=source, TargetPool="/pools/default", TargetSettingGoal="/settings/default")
    assert {groups.client.get(each)["Pool"] for each in groups.members(answer["TargetGroup"])} == {"/pools/default"}
    for name in ("TargetPool", "TargetSettingGoal"):
        refused(groups, shared, {"SyncType": 7, "SourceGroup": source, name: source}, 5, 400, name, "wrong_class", wrong=True)
        refused(groups, shared, {"SyncType": 7, "SourceGroup": source, name: f"/{'pools' if name == 'TargetPool' else 'settings'}/none"}, 5,
                400, name, "no_such_object")


@pytest.mark.parametrize("pairing", [None, 2, "Exact order"])
def test_G13_pairs_are_made_by_position(groups, pairing):
    source, target = groups.group(3), groups.group(3)
    answer = groups.create(SourceGroup=source, TargetGroup=target, ReplicationSettingData={"Pairing": pairing})
    assert [(pair["SystemElement"], pair["SyncedElement"]) for pair in groups.pairs(answer)] == \
        list(zip(groups.members(source), groups.members(target)))


def test_G13_an_optimum_is_not_known(groups, shared):
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(), "ReplicationSettingData": {"Pairing": 4}}, 1, 501,
            "ReplicationSettingData.Pairing")


def test_G14_the_name_is_kept_or_made_up(groups, shared):
    answer = groups.create(SourceGroup=groups.group(), RelationshipName="nightly G14")
    assert groups.client.get(answer["Synchronization"])["RelationshipName"] == "nightly G14"
    assert [each["self"] for each in groups.client.list("/groupsynchronizations", RelationshipName="nightly G14")] == \
        [answer["Synchronization"]]
    names = {groups.client.get(groups.create(SourceGroup=groups.group(1))["Synchronization"])["RelationshipName"] for _ in range(2)}
    assert len(names) == 2 and all(names)
    for wrong in ("", "x" * 251):
        refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(), "RelationshipName": wrong}, 5, 400, "RelationshipName")


def test_G15_new_targets_are_called_by_the_relationship_and_their_number(groups):
    assert groups.names(groups.create(SourceGroup=groups.group(11), RelationshipName="g15")["TargetGroup"]) == \
        [f"g15_{n}" for n in range(1, 12)]
    assert groups.names(groups.create(SourceElement=groups.volumes(1)[0], TargetElementCount=2, RelationshipName="one")["TargetGroup"]) == \
        ["one_1", "one_2"]
    target = groups.group(2)
    before = groups.names(target)
    groups.create(SourceGroup=groups.group(2), TargetGroup=target, RelationshipName="other")
    assert groups.names(target) == before


@pytest.mark.parametrize("consistency", [0, 1, 4, 0x8000])
def test_G16_consistency_is_one_of_two(groups, shared, consistency):
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(), "Consistency": consistency}, 5, 400, "Consistency", wrong=True)


@pytest.mark.parametrize("consistency,enabled", [(None, True), (2, False), (3, True)])
def test_G16_null_is_the_default_that_is_told(groups, consistency, enabled):
    assert groups.client.method("GetDefaultConsistency", {"ReplicationType": 6})["DefaultConsistency"] == 2
    answer = groups.create(SourceGroup=groups.group(2), Consistency=consistency)
    assert groups.client.get(answer["Synchronization"])["ConsistencyEnabled"] is enabled
    assert (answer["BarrierMicroseconds"] is not None) is enabled


def test_G16_what_is_copied_is_not_consistent(groups, shared):
    setting = {"DesiredCopyMethodology": 3}
    refused(groups, shared, {"SyncType": 8, "SourceGroup": groups.group(2), "Consistency": 3, "ReplicationSettingData": setting}, 1, 501,
            "Consistency")
    answer = groups.create(expect=202, SyncType=8, SourceGroup=groups.group(2), ReplicationSettingData=setting)
    assert groups.client.get(answer["Synchronization"])["ConsistencyEnabled"] is False
    groups.client.completed(answer["Job"])


def test_G17_the_numbers_of_consistency_are_not_each_others(groups):
    answer = groups.create(SourceGroup=groups.group(3), Consistency=3)
    shown = groups.client.get(answer["Synchronization"])
    assert (shown["ConsistencyEnabled"], shown["ConsistencyType"], shown["ConsistencyState"], shown["ConsistencyStatus"]) == (True, 2, 3, 2)
    answer = groups.create(SourceGroup=groups.group(2), Consistency=2)
    shown = groups.client.get(answer["Synchronization"])
    assert (shown["ConsistencyEnabled"], shown["ConsistencyType"], shown["ConsistencyState"], shown["ConsistencyStatus"]) == (False, None, 2, 4)


def test_G18_setting_data_overrides_and_what_it_omits_is_the_class_default(groups):
    answer = groups.create(expect=202, SyncType=8, SourceGroup=groups.group(2),
                           ReplicationSettingData={"DesiredCopyMethodology": 3, "BandwidthLimit": 99 * MIB, "CopyPriority": "High"})
    job = groups.client.completed(answer["Job"])
    assert len(job["Copies"]) == 2
    assert {(pair["CopyMethodology"], pair["BandwidthLimit"], pair["CopyPriority"]) for pair in groups.pairs(answer)} == {(3, 99 * MIB, 3)}


def test_G19_access_points_that_are_not_known_are_invalid(groups, shared):
    for name in ("SourceAccessPoint", "TargetAccessPoint"):
        refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(), "TargetGroup": groups.group(), name: "/accesspoints/none"}, 5,
                400, name, "no_such_object")


@pytest.mark.parametrize("sync_type", [7, 8])
def test_G20_done_at_once_there_is_no_job_and_everything_is_there(groups, sync_type):
    before = groups.client.get("/jobs")["Total"]
    answer = groups.create(SyncType=sync_type, SourceGroup=groups.group(2))
    assert answer["ReturnValue"] == 0 and answer["Job"] is None
    shown = groups.client.get(answer["Synchronization"])
    assert shown["CopyState"] == 4 and shown["ProgressStatus"] == 2 and shown["PercentSynced"] == 100
    assert len(shown["Synchronizations"]) == 2
    assert all(pair["GroupSynchronized"] == answer["Synchronization"] for pair in groups.pairs(answer))
    assert groups.client.get("/jobs")["Total"] == before


def test_G21_G22_one_job_copies_all_pairs(groups):
    before = groups.client.get("/jobs")["Total"]
    answer = groups.create(expect=202, SyncType=8, SourceGroup=groups.group(3), ReplicationSettingData={"DesiredCopyMethodology": 3})
    assert groups.client.get("/jobs")["Total"] == before + 1
    job = groups.client.completed(answer["Job"])
    assert [copy["TargetElement"] for copy in job["Copies"]] == groups.members(answer["TargetGroup"])
    assert job["JobOutParameters"]["TargetGroup"] == answer["TargetGroup"]
    assert job["JobOutParameters"]["Synchronization"] == answer["Synchronization"]
    assert groups.client.get(answer["Synchronization"])["CopyState"] == 4


def test_G23_an_empty_source_group_is_invalid(groups, shared):
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(0)}, 5, 400, "SourceGroup")


def test_G24_a_group_is_what_it_is_reserved_for(groups, shared):
    only_source, only_target = groups.group(2, ReservedAs=2), groups.group(2, ReservedAs=3)
    refused(groups, shared, {"SyncType": 7, "SourceGroup": only_target}, 5, 400, "SourceGroup")
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(2), "TargetGroup": only_source}, 5, 400, "TargetGroup")
    groups.create(SourceGroup=only_source, TargetGroup=only_target)


def test_G24_a_group_is_not_its_own_target(groups, shared):
    group = groups.group(2)
    refused(groups, shared, {"SyncType": 7, "SourceGroup": group, "TargetGroup": group}, 5, 400, "TargetGroup")


@pytest.mark.parametrize("action,state,status", [("Stop", 10, [17, 6]), ("Continue", 7, [17, 3])])
def test_G25_one_copy_that_fails_stops_the_job_or_degrades_it(world, action, state, status):
    """The first target becomes another LUN while the array is away."""
    client = world.client
    sources = [world.volume(size=4 * MIB, fill="full") for _ in range(2)]
    target_luns = [world.lun(4 * MIB) for _ in range(2)]
    source, target = (client.method("CreateGroup", {"Members": members}, expect=200)["ReplicationGroup"]
                      for members in (sources, [world.volume(lun) for lun in target_luns]))
    answer = client.method(CREATE, {"SyncType": 8, "SourceGroup": source, "TargetGroup": target,
                                    "ReplicationSettingData": {"BandwidthLimit": 2 * MIB, "OnGroupOrListError": action}}, expect=202)
    client.until(answer["Job"], lambda job: job["BytesDone"] > 0, 20 * SLOWNESS)
    assert client.get(answer["Synchronization"])["Job"] == answer["Job"]
    world.array.kill()
    target_luns[0].options["scsi_id"] = "smirror-test-another"
    target_luns[0].options["scsi_sn"] = "another"
    world.array.start()
    job = client.wait(answer["Job"], 60 * SLOWNESS)
    assert (job["JobState"], job["OperationalStatus"]) == (state, status), job
    shown = client.get(answer["Synchronization"])
    pairs = [client.get(each)["CopyState"] for each in shown["Synchronizations"]]
    assert pairs[0] == 5
    assert shown["CopyState"] == (pairs[0] if len(set(pairs)) == 1 else 14)


def test_G25_nothing_is_made_when_one_member_cannot_be(groups, shared):
    """Checked before anything is made: the second target is too small."""
    target = groups.of([groups.volumes(1, 2 * MIB)[0], groups.volumes(1)[0]])
    refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(2, 2 * MIB), "TargetGroup": target}, 4, 422, "TargetGroup",
            "target_too_small")


@pytest.mark.parametrize("sync_type", [7, 8])
def test_G26_one_point_in_time_makes_the_target_group_say_so(groups, shared, sync_type):
    setting = {"ConsistentPointInTime": True}
    answer = groups.create(SyncType=sync_type, SourceGroup=groups.group(2), Consistency=2, ReplicationSettingData=setting)
    assert groups.client.get(answer["TargetGroup"])["ConsistentPointInTime"] is True
    assert answer["BarrierMicroseconds"] is not None
    shown = groups.client.until(answer["Synchronization"], lambda shown: shown["BarrierMicroseconds"] == answer["BarrierMicroseconds"])
    assert shown["ConsistencyEnabled"] is False
    assert len({pair["WhenSynced"] for pair in groups.pairs(answer)}) == 1
    refused(groups, shared, {"SyncType": 8, "SourceGroup": groups.group(2),
                             "ReplicationSettingData": {**setting, "DesiredCopyMethodology": 3}}, 1, 501,
            "ReplicationSettingData.ConsistentPointInTime")


def test_G26_a_write_that_came_after_another_is_in_no_copy_without_it(groups):
    """Writes go to A and B in turn, each after the end of the one before; every cut has as many of A as of B, or one more."""
    a, b = groups.volumes(2)
    group, stop, written = groups.of([a, b]), threading.Event(), []

    def write():
        with groups.hosted.host(a) as first, groups.hosted.host(b, name="iqn.2026-11.test:other") as second:
            while not stop.is_set():
                block = (len(written) + 1).to_bytes(8, "big") * 512
                first.write(0, block)
                second.write(0, block)
                written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        answer = groups.create(SourceGroup=group, Consistency=3)
        for step in range(12):
            count = len(written)
            until(lambda count=count: len(written) > count + 3, 20 * SLOWNESS, "writes go on")
            if step:
                groups.hosted.modify(answer, "Resync Replica")
            seen = []
            for target in groups.members(answer["TargetGroup"]):
                with groups.hosted.host(target) as session:
                    seen.append(int.from_bytes(session.read(0, 4096)[:8], "big"))
            assert seen[1] <= seen[0] <= seen[1] + 1, seen
            assert step == 0 or seen[0] > 0
    finally:
        stop.set()
        writer.join()


def test_G27_groups_that_are_not_to_last_go_with_the_relationship(groups):
    source, target = groups.group(2, Persistent=False), groups.group(2, DeleteOnUnassociated=True)
    kept = groups.group(2)
    first = groups.create(SourceGroup=source, TargetGroup=target)
    second = groups.create(SourceGroup=kept)
    assert groups.client.get(second["TargetGroup"])["Persistent"] is True
    for answer in (first, second):
        for pair in groups.pairs(answer):
            groups.hosted.modify(pair["self"], 8)
        assert groups.client.get(answer["Synchronization"], expect=404)
    for path in (source, target):
        groups.client.get(path, expect=404)
    for path in (kept, second["TargetGroup"]):
        assert len(groups.members(path)) == 2


def test_G28_a_member_that_is_a_target_already_is_in_use(groups, shared):
    busy = groups.create(SourceElement=groups.volumes(1)[0])
    target = groups.of([groups.volumes(1)[0], groups.members(busy["TargetGroup"])[0]])
    problem = refused(groups, shared, {"SyncType": 7, "SourceGroup": groups.group(2), "TargetGroup": target}, 6, 409, code="in_use")
    assert problem["BlockedOn"] == groups.pairs(busy)[0]["self"]


def test_groups_are_made_of_elements_in_one_call(groups, shared):
    client, method = groups.client, "CreateGroupReplicaFromElements"
    sources, targets = groups.volumes(2), groups.volumes(2)
    answer = client.method(method, {"SyncType": 7, "SourceElements": sources, "RelationshipName": "elements", "SourceGroupName": "from"}, expect=200)
    assert groups.members(answer["SourceGroup"]) == sources and answer["SourceGroupName"] == "from"
    assert groups.names(answer["TargetGroup"]) == ["elements_1", "elements_2"]
    answer = client.method(method, {"SyncType": 8, "SourceElements": sources, "TargetElementNames": ["first", None], "TargetGroupName": "to"},
                           expect=200)
    assert groups.names(answer["TargetGroup"])[0] == "first" and answer["TargetGroupName"] == "to"
    empty = groups.group(0)
    answer = client.method(method, {"SyncType": 7, "SourceElements": sources, "TargetElements": targets, "TargetGroup": empty}, expect=200)
    assert answer["TargetGroup"] == empty and groups.members(empty) == targets
    full, three = groups.group(1), groups.volumes(3)
    with shared.unchanged():
        for wrong, parameter in (({"SourceElements": []}, "SourceElements"), ({"SourceElements": [sources[0]] * 2}, "SourceElements[1]"),
                                 ({"SourceGroup": full}, "SourceGroup"), ({"TargetGroup": full}, "TargetGroup"),
                                 ({"SourceGroup": empty, "SourceGroupName": "x"}, "SourceGroupName"),
                                 ({"TargetElementNames": list("abc")}, "TargetElementNames"),
                                 ({"TargetElements": []}, "TargetElements"),
                                 ({"TargetPools": ["/pools/default"], "TargetPool": "/pools/default"}, "TargetPools"),
                                 ({"TargetElements": three}, "TargetElements")):
            client.refused(method, {"SyncType": 7, "SourceElements": sources, **wrong}, 5, 400, parameter)
        client.refused(method, {"SyncType": 7, "SourceElements": sources, "TargetPools": ["/pools/default"]}, 1, 501, "TargetPools")


def test_relationships_of_groups_are_found(groups):
    source = groups.group(2)
    answer = groups.create(SourceGroup=source)
    found = groups.client.method("GetReplicationRelationships", {"Type": 3})["Synchronizations"]
    assert answer["Synchronization"] in found and all(path.startswith("/groupsynchronizations/") for path in found)
    assert set(found) < set(groups.client.method("GetReplicationRelationships", {})["Synchronizations"])
    for query, there in (({"SyncType": 7, "CopyState": 4}, True), ({"SyncType": 8}, False), ({"CopyState": 14}, False), ({"Mode": 3}, False),
                         ({"Locality": 2}, True), ({"Locality": 3}, False)):
        found = groups.client.method("GetReplicationRelationships", {"Type": 3, **query})["Synchronizations"]
        objects = groups.client.method("GetReplicationRelationshipInstances", {"Type": 3, **query})["Synchronizations"]
        assert [each["self"] for each in objects] == found and all(each["class"] == "GroupSynchronized" for each in objects)
        assert (answer["Synchronization"] in found) is there, query
    assert [each["self"] for each in groups.client.list("/groupsynchronizations", SyncedElement=answer["TargetGroup"])] == \
        [answer["Synchronization"]]
    assert [each["self"] for each in groups.client.list("/groupsynchronizations", SystemElement=source)] == [answer["Synchronization"]]
    instances = groups.client.method("GetReplicationRelationshipInstances", {"Type": 3, "SyncType": 7, "CopyState": 4})["Synchronizations"]
    shown = groups.client.get(answer["Synchronization"]).body
    assert shown in [{key: value for key, value in each.items()} for each in instances]
    assert {each["class"] for each in instances} == {"GroupSynchronized"}
