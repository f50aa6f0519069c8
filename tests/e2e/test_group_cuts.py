# SPDX-License-Identifier: Apache-2.0
"""Volumes cut at one moment (CreateListReplica with Consistency 3): every group of snapshots is a prefix of what a host wrote."""

import http.client
import threading

import pytest

import lun as luns
from faults import Proxy
from hosted import CREATE, DEFAULT, Hosted, Lost, busy
from initiator import Initiator
from process import MIB, SLOWNESS, until

LIST = "CreateListReplica"
MEMBERS, ROUNDS, KILLS = 16, max(4, 12 // SLOWNESS), 2
AWAY = (ConnectionError, http.client.HTTPException, TimeoutError, OSError)


class Writer:
    """A host that counts: number n goes to member n modulo their number, after n - 1 was acknowledged (and flushed, if it flushes)."""

    def __init__(self, array, volumes, flushes=False, count=0):
        self.flushes = flushes
        self.sessions = [Initiator(array.url(volume)) for volume in volumes]
        self.count = count  # acknowledged
        self.running = True
        self.error = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            while self.running:
                session = self.sessions[(self.count + 1) % len(self.sessions)]
                session.write(0, luns.stamp(0, 1, self.count + 1))
                if self.flushes:
                    session.flush()
                self.count += 1
        except Exception as error:
            self.error = error

    def more(self, n=2 * MEMBERS):
        goal = self.count + n
        until(lambda: self.error or self.count >= goal, 60 * SLOWNESS, "the writer goes on")
        assert self.error is None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.running = False
        self.thread.join()
        for session in self.sessions:
            session.close()


def prefix_of(array, targets, least):
    """The number up to which all has been written, and nothing behind it."""
    counts = []
    for target in targets:
        with array.host(target) as session:
            stamp = luns.read_stamp(session.read(0, luns.BLOCK), 0)
        counts.append(stamp[1] if stamp else 0)
    last = max(counts)
    assert counts == [last - (last - i) % len(targets) if last >= (last - i) % len(targets) else 0 for i in range(len(targets))], counts
    assert last >= least, "what was acknowledged before the call is in it"
    return last


def together(client, volumes, sync_type=7, **more):
    return client.method(LIST, {"SyncType": sync_type, "SourceElements": volumes, "Consistency": 3, **more}, expect=200)


def test_every_group_of_snapshots_is_a_prefix(service):
    array = Hosted(service)
    volumes = [array.make(2 * MIB) for _ in range(MEMBERS)]
    loaded = [array.make(8 * MIB) for _ in range(2)]
    last = 0
    with busy(array, loaded), Writer(array, volumes) as writer:  # other members are busy
        for number in range(ROUNDS):
            writer.more()
            acknowledged = writer.count
            answer = together(service.client, volumes + loaded, 8 if number % 3 == 2 else 7, ElementNames=[f"{number}"])
            assert 0 < answer["BarrierMicroseconds"] < 500_000 and answer["Job"] is None
            seen = prefix_of(array, answer["TargetElements"][:MEMBERS], max(acknowledged, last))
            assert seen <= writer.count + 1
            assert prefix_of(array, answer["TargetElements"][:MEMBERS], seen) == seen
            for synchronization in answer["Synchronizations"]:
                if number % 3 == 1:
                    array.modify(synchronization, "Return To ResourcePool")
            last = seen
    array.assert_all_online()


def test_both_sides_of_mirrors_are_prefixes(service):
    """A write that a stack holds may be on the leg already, or the other way round: it has not ended."""
    array = Hosted(service)
    volumes = [array.make(2 * MIB) for _ in range(4)]
    mirrors = [service.client.method(CREATE, {"SyncType": 6, "Mode": 2, "SourceElement": volume}, expect=202) for volume in volumes]
    for mirror in mirrors:
        service.client.until(mirror["Synchronization"], lambda r: r["CopyState"] == 4, 30 * SLOWNESS)
    targets = [mirror["TargetElement"] for mirror in mirrors]
    with Writer(array, volumes) as writer:
        for _ in range(ROUNDS // 2):
            writer.more(8)
            acknowledged = writer.count
            cuts = together(service.client, volumes + targets)["TargetElements"]
            prefix_of(array, cuts[:4], acknowledged)
            prefix_of(array, cuts[4:], acknowledged)


def test_killed_in_the_middle_a_group_is_there_whole_or_not_at_all(service):
    array = Hosted(service)
    volumes = [array.make(2 * MIB) for _ in range(MEMBERS)]
    names = iter(range(1, 1 << 30))
    count = 0
    for _ in range(KILLS):
        writer = Writer(array, volumes, True, count)  # what is not flushed may be lost on one and not on the other
        known = {}

        def go_on():
            try:
                while True:
                    name = f"g{next(names)}"
                    known[name] = None
                    acknowledged = writer.count
                    answer = together(service.client, volumes, ElementNames=[name] * MEMBERS)
                    known[name] = acknowledged, answer["TargetElements"]
            except AWAY:
                pass

        thread = threading.Thread(target=go_on)
        thread.start()
        until(lambda: sum(each is not None for each in known.values()) >= 3, 30 * SLOWNESS, "some groups are there")
        service.kill()
        thread.join()
        writer.close()
        count = writer.count
        service.start()
        there = {}
        for path, volume in array.volumes().items():
            there.setdefault(volume["ElementName"], []).append(path)
        for name, answered in known.items():
            if answered:
                prefix_of(array, answered[1], answered[0])
            else:  # it had no answer
                assert len(there.get(name, [])) in (0, MEMBERS)
                by_source = {sync["SystemElement"]: sync["SyncedElement"] for sync in service.client.list("/synchronizations")
                             if sync["SyncedElement"] in there.get(name, [])}
                if by_source:
                    prefix_of(array, [by_source[volume] for volume in volumes], 0)
        array.assert_no_orphans()
        for path in [p for name in known for p in there.get(name, [])]:
            array.delete(path)


def test_a_member_that_does_not_come_to_rest_voids_it(world):
    """A write to a clone waits for the LUN below it, which is away: nothing is made, nobody else waits."""
    array = Hosted(world.smirror)
    volumes = [array.make(2 * MIB) for _ in range(3)]
    proxy = Proxy(world.array.port)
    source = world.client.volume_of(world.lun(4 * MIB, "full").url_at(proxy.portal))
    answer = world.client.method(CREATE, {"SyncType": 8, "SourceElement": source, "TargetPool": DEFAULT, "WaitForCopyState": 8,
                                          "ReplicationSettingData": {"DesiredCopyMethodology": 7}}, expect=(200, 202))
    clone = answer["TargetElement"]
    array.modify(answer, "Activate", expect=(200, 202), ReplicationSettingData={"BandwidthLimit": 64 << 10})
    proxy.stuck = True
    session = Initiator(array.url(clone), timeout=60)
    part = threading.Thread(target=lambda: session.write(3 * MIB, b"x" * 512))  # the rest of the block is to be read first
    part.start()
    but = ("copies", "jobs", "sqlite_sequence")  # of the filling; numbers are not used twice
    try:
        records = world.smirror.records(but)
        refused = []

        def is_stuck():
            got = world.client.method(LIST, {"SyncType": 7, "SourceElements": [*volumes, clone], "Consistency": 3}, expect=(200, 504),
                                      headers={"Idempotency-Key": "stuck"})
            refused.append(got)
            return got.status == 504

        until(is_stuck, 30 * SLOWNESS, "the write has begun and does not end")
        if len(refused) == 1:
            assert world.smirror.records(but) == records
        problem = refused[-1]
        assert problem["ReturnValue"] == 3 and problem["Code"] == "timeout" and clone.rsplit("/", 1)[1] in problem["detail"]
        assert part.is_alive()
        array.fill(volumes[0], 5)  # hosts go on
        assert len(together(world.client, volumes)["Synchronizations"]) == 3
    finally:
        proxy.stuck = False
        proxy.cut()
        part.join()
    again = world.client.method(LIST, {"SyncType": 7, "SourceElements": [*volumes, clone], "Consistency": 3}, expect=200,
                                headers={"Idempotency-Key": "stuck"})
    with array.host(again["TargetElements"][3]) as snapshot:
        assert snapshot.read(3 * MIB, 512) == b"x" * 512
    assert array.writers(again["TargetElements"][0]) == {5}
    session.close()
    proxy.close()
