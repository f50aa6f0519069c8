# SPDX-License-Identifier: Apache-2.0
"""Two smirrords: the one whose volume is the other side of a relationship says so, as far as it was told; whoever lies harms nobody."""

import re

import pytest

from events import Stream
from hosted import Hosted
from pipes import Ways
from process import MIB, SLOWNESS
from smirror import Smirror

INITIATOR = "iqn.2026-11.test:liar"


class Ends:
    def __init__(self, service, directory):
        self.here = Hosted(service)
        self.peer = Smirror(directory)
        self.there = Hosted(self.peer)
        self.name = self.here.client.get("/endpoints/initiator")["Identifier"]
        self.made = []

    def pair(self, size=4 * MIB):
        """(a volume of ours, one of theirs, ours of theirs)"""
        ours, theirs = self.here.make(size), self.there.make(size)
        remote = self.here.client.volume_of(self.there.url(theirs))
        self.made.append((ours, theirs, remote))
        return ours, theirs, remote

    def told(self, volume, synchronization, role, other):
        number = self.here.client.get(synchronization)["self"].rsplit("/", 1)[1]
        said = f"smirror /synchronizations/{number} LUN 0 is the {role.lower()} of {other}"
        return [{"Initiator": self.name, "Alias": said, "Synchronization": synchronization, "Role": role, "OtherElement": other}]

    def logged_in(self, volume, n):
        """The target of their volume, when n sessions are known there."""
        return self.there.client.until(volume.replace("volumes", "exports"), lambda e: len(e["Sessions"]) == n, 20 * SLOWNESS)

    def shows(self, volume, expected):
        self.there.client.until(volume, lambda v: v["RemoteRelationships"] == expected, 20 * SLOWNESS)


@pytest.fixture(scope="module")
def ends(service, room):
    made = Ends(service, room / "other-end")
    yield made
    made.peer.close()


def test_both_ends_show_a_mirror_as_long_as_it_is_there(ends):
    ours, theirs, remote = ends.pair()
    assert ends.there.client.get(theirs)["RemoteRelationships"] == []
    with Stream(ends.peer, f"?path={theirs}") as stream:
        synchronization = ends.here.client.method(
            "CreateElementReplica", {"SyncType": 6, "Mode": 2, "SourceElement": ours, "TargetElement": remote}, expect=202)["Synchronization"]
        expected = ends.told(theirs, synchronization, "Target", ours)
        ends.here.client.until(synchronization, lambda r: r["CopyState"] == 4, 30 * SLOWNESS)
        ends.shows(theirs, expected)
        stream.until(lambda event: event.object is not None and event.object["RemoteRelationships"] == expected)
        export = ends.there.client.get(theirs.replace("volumes", "exports"))
        assert export["Sessions"] == [ends.name] and export["SessionAliases"] == [expected[0]["Alias"]]
        assert synchronization in ends.here.client.get(remote)["Relationships"]
        ends.here.modify(synchronization, "Detach", Force=True)
        ends.shows(theirs, [])
        stream.until(lambda event: event.object is not None and event.object["RemoteRelationships"] == [])


def test_the_cycle_of_an_asynchronous_mirror_is_shown_while_it_copies(ends):
    ours, theirs, remote = ends.pair()
    ends.here.fill(ours, 1, length=4 * MIB)
    synchronization = ends.here.client.method(
        "CreateElementReplica", {"SyncType": 6, "Mode": 3, "SourceElement": ours, "TargetElement": remote,
                                 "ReplicationSettingData": {"BandwidthLimit": 256 << 10}}, expect=202)["Synchronization"]
    ends.shows(theirs, ends.told(theirs, synchronization, "Target", ours))
    ends.here.modify(synchronization, "Detach", Force=True)
    ends.shows(theirs, [])


def test_sessions_over_a_pipe_are_one_relationship_and_a_source_is_called_one(ends):
    size = 8 * MIB
    ours, theirs, _ = ends.pair(size)
    client = ends.here.client
    ways = Ways(client, int(ends.peer.ready["iscsi"].rsplit(":", 1)[1]))
    try:
        remote = client.volume_of(ends.there.url(theirs).replace(ends.peer.ready["iscsi"], ways.proxies[0].portal))
        pipe = ways.pipe(Goal={"SessionsPerPair": 2, "BandwidthLimit": 2 * MIB})
        ends.there.fill(theirs, 1, length=size)
        answer = client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": remote, "TargetElement": ours,
                                                        "ReplicationSettingData": {"ReplicationPipe": pipe}}, expect=202)
        ends.shows(theirs, ends.told(theirs, answer["Synchronization"], "Source", ours))
        export = ends.logged_in(theirs, 4)
        assert len(set(export["SessionAliases"])) == 1
        assert ends.there.client.get(theirs)["RemoteRelationships"] == ends.told(theirs, answer["Synchronization"], "Source", ours)
        client.post(f"{answer['Job']}/RequestStateChange", {"RequestedState": 4}, expect=(200, 202))
        client.wait(answer["Job"], 30 * SLOWNESS)
        ends.shows(theirs, [])
    finally:
        ways.close()


def test_a_mirror_that_is_cut_is_not_shown_until_it_is_back(ends):
    ours, theirs, remote = ends.pair()
    answer = ends.here.client.method("CreateElementReplica", {"SyncType": 6, "Mode": 2, "SourceElement": ours, "TargetElement": remote},
                                     expect=202)
    expected = ends.told(theirs, answer["Synchronization"], "Target", ours)
    ends.here.client.until(answer["Synchronization"], lambda r: r["CopyState"] == 4, 30 * SLOWNESS)
    ends.shows(theirs, expected)
    ends.here.modify(answer["Synchronization"], "Suspend")
    ends.shows(theirs, [])
    ends.here.modify(answer["Synchronization"], "Resume", expect=(200, 202))
    ends.here.client.until(answer["Synchronization"], lambda r: r["CopyState"] == 4, 30 * SLOWNESS)
    ends.shows(theirs, expected)
    ends.here.modify(answer["Synchronization"], "Detach", Force=True)


NO_RELATIONSHIP = [
    b"web-server-7",
    b"smirror",
    b"smirror /synchronizations/a LUN 0 is the target of /volumes/",
    b"smirror /synchronizations/ LUN 0 is the target of /volumes/b",
    b"smirror /synchronizations/../../etc LUN 0 is the target of /volumes/b",
    b"smirror /synchronizations/a LUN 1 is the target of /volumes/b",
    b"smirror /synchronizations/a LUN 99999999999999999999 is the target of /volumes/b",
    b"smirror /synchronizations/a LUN 0 is the target of /volumes/b\x1b[2J",
    b"smirror /synchronizations/" + b"a" * 24 + b" LUN 0 is the target of /volumes/b",
    b"smirror /synchronizations/a LUN 0 is the target of /volumes/b and more",
    b"\"},{\"Initiator\":\"x\\\n\r\t\x01\x7f",
    b"\xff\xfe\xc0\x80\xed\xa0\x80 \xf5\x80\x80\x80 \xe2\x82",
    "Übung 東京 🖴".encode(),
    b"a" * 239,  # what libiscsi sends at most
    b"%s%n%s" * 30,
]


@pytest.mark.parametrize("alias", NO_RELATIONSHIP)
def test_what_is_not_said_by_a_smirrord_is_only_shown(ends, alias):
    volume = ends.there.make(MIB)
    with ends.there.host(volume, name=INITIATOR, alias=alias) as session:
        session.fill(0, 4096, 1)
        export = ends.logged_in(volume, 1)
        assert export["Sessions"] == [INITIATOR] and ends.there.client.get(volume)["RemoteRelationships"] == []
        said = export["SessionAliases"][0]
        assert said == re.sub(r"[\x00-\x1f\x7f]", "?", said)
        try:
            assert said == re.sub(r"[\x00-\x1f\x7f]", "?", alias.decode())
        except UnicodeDecodeError:
            assert "\ufffd" in said
    ends.there.delete(volume)


def test_who_claims_to_be_a_relationship_changes_nothing(ends):
    volume = ends.there.make(MIB)
    kept = ("WriteProtected", "Usage", "Relationships", "Problem", "OperationalStatus")
    before = ends.there.client.get(volume)
    with ends.there.host(volume, name=INITIATOR, alias=f"smirror /synchronizations/x LUN 0 is the target of {volume}".encode()):
        ends.logged_in(volume, 1)
        shown = ends.there.client.get(volume)
        assert shown["RemoteRelationships"] == [
            {"Initiator": INITIATOR, "Alias": f"smirror /synchronizations/x LUN 0 is the target of {volume}",
             "Synchronization": "/synchronizations/x", "Role": "Target", "OtherElement": volume}]
        assert all(shown[name] == before[name] for name in kept)
        ends.there.fill(volume, 1)
        assert ends.there.client.get("/synchronizations", SyncedElement=volume)["Members"] == []
    ends.there.delete(volume)


def test_a_crowd_of_liars_does_not_make_an_object_endless(ends):
    volume = ends.there.make(MIB)
    sessions = []
    try:
        for i in range(20):
            sessions.append(ends.there.session(volume, name=f"{INITIATOR}-{i}",
                                               alias=f"smirror /synchronizations/{i} LUN 0 is the source of /volumes/{i}".encode()))
        assert len(ends.logged_in(volume, 20)["SessionAliases"]) == 20
        assert len(ends.there.client.get(volume)["RemoteRelationships"]) == 16
    finally:
        for session in sessions:
            session.close()
    ends.shows(volume, [])
    ends.there.delete(volume)
