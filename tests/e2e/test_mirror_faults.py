# SPDX-License-Identifier: Apache-2.0
"""Mirrors while something breaks: whatever fails, and whenever, nothing that was answered is lost and nothing is stuck.

Three processes: smirrord, which has the source; a second smirrord and tgtd, which have the targets, each behind a proxy. A stamped load
runs over each fault; after it both sides are compared byte by byte.
"""

import itertools
import threading
from http.client import HTTPException

import pytest

from hosted import Lost
from initiator import ScsiError, host
from process import MIB, SLOWNESS, until
from sites import Pair, Site, fill_up, make_room

RATE = MIB  # of a copy that is to be hit in its middle


@pytest.fixture(scope="module")
def site(room):
    made = Site(room)
    yield made
    made.close()


@pytest.fixture
def make_pair(site):
    made = []

    def make(kind):
        made.append(Pair(site, kind))
        return made[-1]

    yield make
    for pair in made:
        pair.stamp.process.kill()


# ---- moments

def initial_copy(pair):
    pair.run()
    pair.writes_go_on()
    pair.begin(wait=False, BandwidthLimit=RATE)
    pair.in_the_middle()


def in_sync(pair):
    pair.begin()
    pair.run()
    pair.writes_go_on()


def resync(pair):
    in_sync(pair)
    pair.do("Fracture")
    pair.writes_go_on(500)
    pair.limit(RATE)
    pair.do("Resync Replica")
    pair.in_the_middle()


def failed_over(pair):
    """Hosts work on the target."""
    in_sync(pair)
    pair.rest()
    pair.do("Failover")
    assert pair.shown()["CopyState"] == 10
    pair.moves_to(pair.there.url(pair.made))
    pair.run()
    pair.writes_go_on(500)
    pair.rest()


def failback(pair):
    failed_over(pair)
    pair.limit(RATE)
    pair.do("Failback")
    pair.moves_to(pair.url)
    pair.run()
    pair.in_the_middle()


MOMENTS = [initial_copy, in_sync, resync, failback]


# ---- faults

def away(pair, moment):
    """The target is gone, and that is told; hosts do not notice, but those of a failback wait."""
    shown = pair.reaches(16)
    assert shown["Problem"] and shown["ProgressStatus"] == 3, shown
    if moment is not failback:
        pair.writes_go_on()
        assert pair.shown()["CopyState"] == 16


def link_cut(pair, moment):
    pair.proxy.refuse = True
    pair.proxy.cut()
    away(pair, moment)
    pair.proxy.refuse = False


def peer_killed(pair, moment):
    pair.there.kill()
    away(pair, moment)
    pair.there.start()


def peer_stopped(pair, _moment):
    """Not for long: hosts wait, and nothing else happens."""
    pair.there.freeze()
    try:
        with host(pair.url):  # another host may log in meanwhile
            assert pair.shown()["CopyState"] in (3, 4)
    finally:
        pair.there.thaw()


def self_killed(pair, _moment):
    pair.site.smirror.kill()
    with pytest.raises(Lost):
        pair.rest()
    pair.site.smirror.start()
    pair.stamp("reconnect", "a", pair.url)
    pair.run()


FAULTS = [link_cut, peer_killed, peer_stopped, self_killed]
SLOW = (initial_copy, resync)


def cases():
    for (f, fault), (m, moment) in itertools.product(enumerate(FAULTS), enumerate(MOMENTS)):
        kind = "smirrord" if (f + m) % 2 else "tgtd"
        if fault is peer_stopped and moment in (in_sync, resync):
            continue  # below, for long
        slow = moment in SLOW and fault is not self_killed
        yield pytest.param((fault, moment, kind), id=f"{fault.__name__}-{moment.__name__}-{kind}", marks=[pytest.mark.big] * slow)


@pytest.mark.parametrize("case", cases())
def test_nothing_is_lost_and_nothing_is_stuck(make_pair, case):
    fault, moment, kind = case
    pair = make_pair(kind)
    moment(pair)
    fault(pair, moment)
    pair.is_whole()
    pair.end()


def test_a_peer_that_is_stopped_does_not_hold_up_our_end(site, make_pair):
    pair = make_pair("tgtd")
    in_sync(pair)
    pair.there.freeze()
    try:
        site.smirror.stop()
        site.smirror.start()
        with pytest.raises(Lost):
            pair.rest()
        pair.stamp("reconnect", "a", pair.url)
    finally:
        pair.there.thaw()
    pair.run()
    pair.is_whole()
    pair.end()


# ---- pools that are full

@pytest.mark.parametrize("moment", [pytest.param(initial_copy, marks=pytest.mark.big), in_sync,
                                    pytest.param(resync, marks=pytest.mark.big)])
def test_a_target_without_room_breaks_the_mirror_and_resync_mends_it(site, make_pair, moment):
    """Its hosts do not notice."""
    pair = make_pair("smirrord")
    moment(pair)
    fill_up(site.peer.hosted, site.peer.pool)
    try:
        pair.limit(0)
        shown = pair.reaches(5)
        assert "ENOSPC" in shown["Problem"] or "space" in shown["Problem"], shown
        if moment is not in_sync:
            assert pair.client.wait(pair.job)["JobState"] == 10
        pair.writes_go_on()
        assert pair.shown()["CopyState"] == 5
    finally:
        make_room(site.peer.hosted, site.peer.pool)
    pair.do("Resync Replica")
    pair.is_whole()
    pair.end()


def test_a_source_without_room_waits_in_a_failback(site, make_pair):
    """Nothing is given up: with room again it goes on by itself."""
    pair = make_pair("tgtd")
    failed_over(pair)
    pair.limit(RATE)
    pair.do("Failback")
    pair.in_the_middle()
    fill_up(site.hosted, site.pool)
    try:
        pair.limit(0)
        until(lambda: pair.client.get(pair.job)["LastError"], 20, "it is told")
        assert pair.shown()["CopyState"] == 3
    finally:
        make_room(site.hosted, site.pool)
    pair.moves_to(pair.url)
    pair.run()
    pair.is_whole()
    pair.end()


def test_a_target_without_room_breaks_a_failback_and_restore_mends_it(site, make_pair):
    """What hosts write on the way back is on the target, too, or it cannot be flushed."""
    pair = make_pair("smirrord")
    pair.begin()
    pair.do("Failover")
    with host(pair.there.url(pair.made)) as session:
        session.fill(0, 4 * MIB, 7)
        session.flush()
    pair.limit(RATE)
    pair.do("Failback")
    pair.in_the_middle()
    fill_up(site.peer.hosted, site.peer.pool)
    try:
        with host(pair.url) as session, pytest.raises(ScsiError):
            session.fill(6 * MIB, MIB, 8)
            session.flush()
        shown = pair.reaches(5)
        assert "ENOSPC" in shown["Problem"], shown
        assert "no_space" in pair.client.wait(pair.job)["LastError"]
    finally:
        make_room(site.peer.hosted, site.peer.pool)
    pair.limit(0)
    pair.do("Restore from Replica")
    pair.client.completed(pair.job)
    assert pair.reaches(4)["Problem"] is None
    assert site.hosted.writers(pair.source, 0, 4 * MIB) == {7}
    with host(pair.url) as session:
        session.fill(6 * MIB, MIB, 8)
        session.flush()
    pair.equal()
    pair.end()


def test_a_source_without_room_refuses_hosts_and_stays_equal(site, make_pair):
    pair = make_pair("smirrord")
    pair.begin()
    with host(pair.url) as session:
        session.fill(0, MIB, 7)
        fill_up(site.hosted, site.pool)
        try:
            with pytest.raises(ScsiError):
                session.fill(4 * MIB, 2 * MIB, 7)
        finally:
            make_room(site.hosted, site.pool)
        session.fill(4 * MIB, MIB, 8)
        session.flush()
    pair.reaches(4)
    pair.equal()
    pair.end()


# ---- a failover

def stopped_by(fault, pair):
    if fault is self_killed:
        pair.site.smirror.kill()
        pair.proxy.stuck = False
        pair.site.smirror.start()
        return
    if fault is peer_killed:
        pair.there.kill()
    pair.proxy.refuse = True
    pair.proxy.cut()
    pair.proxy.stuck = False
    pair.reaches(16)
    if fault is peer_killed:
        pair.there.start()
    pair.proxy.refuse = False


@pytest.mark.parametrize("fault,kind", [(link_cut, "tgtd"), (self_killed, "tgtd"),
                                        pytest.param(peer_killed, "smirrord", marks=pytest.mark.big)])
def test_a_failover_that_is_interrupted(make_pair, fault, kind):
    """It is done or not, and can be done again; hosts find on the target what they have written."""
    pair = make_pair(kind)
    in_sync(pair)
    pair.rest()
    pair.proxy.stuck = True  # both sides are not flushed before it goes on
    answers = []

    def call():
        try:
            answers.append(pair.do("Failover", expect=(200, 409, 503, 504)).status)
        except (OSError, HTTPException):
            answers.append(None)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        until(pair.proxy.holds, 20, "the flush of the failover waits")
        stopped_by(fault, pair)
    finally:
        pair.proxy.stuck = pair.proxy.refuse = False
        caller.join(60 * SLOWNESS)
    assert len(answers) == 1
    shown = pair.client.until(pair.sync, lambda r: r["CopyState"] in (4, 10), 30 * SLOWNESS)
    assert (shown["CopyState"] == 10) == (answers == [200]), (shown, answers)
    if shown["CopyState"] == 4:
        pair.do("Failover")
    pair.moves_to(pair.there.url(pair.made), flushed=fault is not link_cut)
    pair.run()
    pair.writes_go_on()
    pair.rest()
    pair.do("Failback")
    pair.moves_to(pair.url)
    pair.run()
    pair.is_whole()
    pair.end()
