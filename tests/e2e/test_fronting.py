# SPDX-License-Identifier: Apache-2.0
"""A LUN of another system behind ours: hosts move to a clone that is filled while it is used (DesiredCopyMethodology 7), and a mirror of the clone
onto that LUN, begun at once, brings back what they write. What the clone and its snapshots have not yet is kept before it is overwritten."""

import threading

import lun as luns
from hosted import CREATE
from process import MIB, SLOWNESS, until
from test_hydration import DETACH, HARDLY, Clone, clone  # noqa: F401  (a fixture)

MIRROR = {"SyncType": 6, "Mode": 2}
SIZE, KIB64 = 8 * MIB, 64 << 10


def front(one, limit=None, expect=202):
    setting = {"ReplicationSettingData": {"BandwidthLimit": limit}} if limit else {}
    return one.client.method(CREATE, {**MIRROR, "SourceElement": one.volume, "TargetElement": one.source, **setting}, expect=expect)


def equal(one, answer):
    one.client.until(answer["Synchronization"], lambda r: r["CopyState"] == 4, 60 * SLOWNESS)


def lun_has(one, now):
    """The LUN itself, in the file of its array."""
    with open(one.lun.path, "rb") as file:
        data = file.read(one.size)
    for number, writer in enumerate(now):
        at = number * luns.BLOCK
        found = luns.read_stamp(data[at:at + luns.BLOCK], at)
        assert (found[0] if found else None) == writer, f"block {number} of the LUN: {found}, not {writer}"


def writers_of_lun(one, length):
    with open(one.lun.path, "rb") as file:
        data = file.read(length)
    found = set()
    for at in range(0, length, luns.BLOCK):
        try:
            stamp = luns.read_stamp(data[at:at + luns.BLOCK], at)
        except AssertionError:
            continue  # is being written
        found.add(stamp and stamp[0])
    return found


def test_hosts_move_the_lun_stays_the_newest_and_they_move_back(clone):  # noqa: F811
    one = clone(limit=MIB, size=SIZE)
    mirror = front(one, limit=MIB // 2)
    moments = []
    with one.array.host(one.volume) as session:
        for writer in range(2, 7):
            one.write(session, writer, 30)
            answer = one.array.replica(one.volume)
            moments.append((answer, list(one.now)))
            one.write(session, 10 + writer, 30)
            for replica, then in moments:
                one.check(replica["TargetElement"], then)
        assert one.client.get(mirror["Synchronization"])["CopyState"] == 3, "the mirror was equal before the snapshots were taken: a larger SIZE"
        equal(one, mirror)
        one.write(session, 20, 30)
    lun_has(one, one.now)
    for replica, then in moments:
        one.check(replica["TargetElement"], then)
        one.array.modify(replica, "Return To ResourcePool")
    one.filled()  # the leg keeps nothing any more: layers are merged
    one.array.layers_become(one.volume)
    one.check()
    # Back: the LUN alone is what is left.
    one.array.modify(mirror, DETACH)
    one.modify("Return To ResourcePool")
    assert one.client.get(one.volume, expect=404).status == 404
    lun_has(one, one.now)


def test_killed_while_hosts_write_snapshots_keep_what_they_had(clone):  # noqa: F811
    one = clone(limit=HARDLY, size=SIZE)
    mirror = front(one, limit=2 * MIB)
    with one.array.host(one.volume) as session:
        one.write(session, 2, 40)
        answer = one.array.replica(one.volume)
        then = list(one.now)
        stop, filled, lost = threading.Event(), [], []

        def go_on():
            try:
                while not stop.is_set():
                    session.fill(len(filled) % 32 * KIB64, KIB64, 3)
                    session.flush()
                    filled.append(None)
            except (ConnectionError, AssertionError) as error:
                lost.append(error)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            one.check(answer["TargetElement"], then)
            until(lambda: lost or (len(filled) >= 32 and 3 in writers_of_lun(one, 2 * MIB)), 30 * SLOWNESS, "the LUN was overwritten")
            one.world.smirror.kill()
        finally:
            stop.set()
            thread.join()
        assert lost
    one.world.smirror.start()
    one.check(answer["TargetElement"], then)
    assert 3 in one.array.writers(one.volume, 0, 2 * MIB)
    equal(one, mirror)
    one.check(answer["TargetElement"], then)
    with one.array.host(one.volume) as session:
        data = session.read(0, SIZE)
    with open(one.lun.path, "rb") as file:
        assert file.read(SIZE) == data


def test_only_a_synchronous_mirror_may_write_to_what_is_below(clone):  # noqa: F811
    one = clone(limit=HARDLY, size=SIZE)
    one.client.refused(CREATE, {"SyncType": 8, "SourceElement": one.volume, "TargetElement": one.source}, 6, 409)
    other = one.array.make(SIZE)
    one.client.refused(CREATE, {**MIRROR, "SourceElement": other, "TargetElement": one.source}, 6, 409)
    mirror = front(one)
    # Another clone would be filled from a LUN that changes.
    one.client.refused(CREATE, {"SyncType": 8, "SourceElement": one.source, "TargetPool": "/pools/default",
                                "ReplicationSettingData": {"DesiredCopyMethodology": 7}}, 6, 409)
    equal(one, mirror)
