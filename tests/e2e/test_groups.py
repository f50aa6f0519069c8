# SPDX-License-Identifier: Apache-2.0
"""Replication groups over HTTP: CreateGroup, DeleteGroup, AddMembers, RemoveMembers, and what becomes of groups by themselves."""

import pytest

from hosted import Hosted

MIB = 1 << 20


@pytest.fixture(scope="module")
def hosted(service):
    return Hosted(service)


def group(client, members=(), expect=200, **more):
    return client.method("CreateGroup", {"Members": list(members), **more}, expect=expect)["ReplicationGroup"]


def gone(client, path):
    assert client.get(path, expect=404)["Code"] == "not_found"


def unchanged(hosted):
    return hosted.smirror.records()


def test_a_group_keeps_its_members_in_order_and_its_properties(hosted):
    client = hosted.client
    a, b, c = (hosted.make(MIB) for _ in range(3))
    path = group(client, [c, a, c], GroupName="database", Persistent=False, DeleteOnEmptyElement=True, DeleteOnUnassociated=True,
                 ReservedAs="Source Only")
    shown = client.get(path)
    assert shown["Members"] == [c, a]  # named again: it stays where it is
    assert (shown["ElementName"], shown["Persistent"], shown["DeleteOnEmptyElement"], shown["DeleteOnUnassociated"],
            shown["ReservedAs"]) == ("database", False, True, True, 2)
    client.method("AddMembers", {"ReplicationGroup": path, "Members": [a, b]}, expect=200)
    assert client.get(path)["Members"] == [c, a, b]
    assert [each["self"] for each in client.list("/groups", ElementName="database")] == [path]


def test_a_group_without_a_name_gets_one_of_ours_and_defaults(hosted):
    client = hosted.client
    first, second = group(client), group(client, None or [])
    names = {client.get(each)["ElementName"] for each in (first, second)}
    assert len(names) == 2 and all(names)
    shown = client.get(first)
    assert (shown["Persistent"], shown["DeleteOnEmptyElement"], shown["DeleteOnUnassociated"], shown["ConsistentPointInTime"],
            shown["ReservedAs"], shown["Members"], shown["AsSource"], shown["AsTarget"]) == (True, False, False, False, 4, [], [], [])


@pytest.mark.parametrize("name", ["", "x" * 251])
def test_names_have_a_length(hosted, name):
    hosted.client.refused("CreateGroup", {"GroupName": name}, 5, 400, "GroupName")


def test_a_member_may_be_in_several_groups_and_leaves_them_when_it_is_deleted(hosted):
    client = hosted.client
    volume, other = hosted.make(MIB), hosted.make(MIB)
    stays, goes = group(client, [volume, other]), group(client, [volume], DeleteOnEmptyElement=True)
    hosted.delete(volume)
    assert client.get(stays)["Members"] == [other]
    gone(client, goes)


def test_a_group_with_members_is_deleted_only_when_that_is_said(hosted):
    client = hosted.client
    volume = hosted.make(MIB)
    path = group(client, [volume])
    before = unchanged(hosted)
    client.refused("DeleteGroup", {"ReplicationGroup": path}, 4, 409, "ReplicationGroup", "group_not_empty")
    assert unchanged(hosted) == before
    client.method("DeleteGroup", {"ReplicationGroup": path, "RemoveElements": True}, expect=200)
    gone(client, path)
    assert client.get(volume)["self"] == volume


def test_members_in_a_relationship_stay_and_keep_their_group(hosted):
    client = hosted.client
    volume, other = hosted.make(MIB), hosted.make(MIB)
    snapshot = hosted.replica(volume)
    path = group(client, [volume, other])
    before = unchanged(hosted)
    problem = client.refused("RemoveMembers", {"ReplicationGroup": path, "Members": [other, volume]}, 6, 409, code="in_use")
    assert problem["BlockedOn"] == snapshot["Synchronization"]
    problem = client.refused("DeleteGroup", {"ReplicationGroup": path, "RemoveElements": True}, 7, 409, "ReplicationGroup",
                             "element_in_relationship")
    assert problem["BlockedOn"] == snapshot["Synchronization"]
    assert unchanged(hosted) == before
    hosted.modify(snapshot, 19)
    client.method("RemoveMembers", {"ReplicationGroup": path, "Members": [other, volume]}, expect=200)
    assert client.get(path)["Members"] == []


@pytest.mark.parametrize("of_group,of_call,goes", [(False, None, False), (True, None, True), (True, False, False), (False, True, True)])
def test_the_last_member_takes_the_group_with_it_when_that_is_wanted(hosted, of_group, of_call, goes):
    client = hosted.client
    volume = hosted.make(MIB)
    path = group(client, [volume], DeleteOnEmptyElement=of_group)
    client.method("RemoveMembers", {"ReplicationGroup": path, "Members": [volume], "DeleteOnEmptyElement": of_call}, expect=200)
    if goes:
        gone(client, path)
    else:
        assert client.get(path)["Members"] == []


def test_return_values_of_their_own(hosted):
    client = hosted.client
    volume, stranger = hosted.make(MIB), hosted.make(MIB)
    path = group(client, [volume])
    before = unchanged(hosted)
    for name in ("AddMembers", "RemoveMembers"):
        client.refused(name, {"ReplicationGroup": "/groups/000000000000", "Members": [volume]}, 7, 400, "ReplicationGroup", "no_such_group")
    client.refused("DeleteGroup", {"ReplicationGroup": "/groups/000000000000"}, 5, 400, "ReplicationGroup", "no_such_object")
    client.refused("RemoveMembers", {"ReplicationGroup": path, "Members": [volume, stranger]}, 8, 400, "Members[1]", "not_a_member")
    client.refused("RemoveMembers", {"ReplicationGroup": path, "Members": [volume, volume]}, 5, 400, "Members[1]")
    assert unchanged(hosted) == before


def test_groups_outlive_a_restart_and_those_that_are_not_to_do_not(hosted):
    client = hosted.client
    volume = hosted.make(MIB)
    kept, dropped = group(client, [volume]), group(client, [volume], Persistent=False)
    hosted.smirror.stop()
    hosted.smirror.start()
    assert client.get(kept)["Members"] == [volume]
    client.until("/groups", lambda groups: dropped not in [each["self"] for each in groups["Members"]])
