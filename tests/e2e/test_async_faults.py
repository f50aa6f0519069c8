# SPDX-License-Identifier: Apache-2.0
"""Asynchronous mirrors while something breaks: whatever fails, and whenever, the target is a moment of its source or says that it is none,
hosts of the source do not notice, states tell the truth, and all goes on when the fault is gone.

Three processes: smirrord, which has the source; a second smirrord and tgtd, which have the targets, each behind a proxy. One fault hits several
mirrors at once, each in another part of its life. Their hosts write one page after the other, so each moment is a prefix.
"""

import contextlib
import datetime
import itertools
import os
import shutil
import threading
import time
from concurrent import futures
from http.client import HTTPException

import pytest
import test_mirror_faults

from initiator import ScsiError, host
from prefix import PAGE, Prefix
from process import MIB, SLOWNESS, until
from sites import Pair as SyncPair
from sites import Relationship, Site, fill_up, make_room

SIZE = 2 * MIB
RATE = MIB // 4  # of what is to be hit in its middle
FORWARD = 1  # the way of a cycle
_writers = itertools.count(1)


@pytest.fixture(scope="module")
def site(room):
    made = Site(room)
    yield made
    made.close()


class Pair(Relationship):
    MODE, COPY_TYPE = 3, 2

    def __init__(self, site, kind):
        super().__init__(site, kind, SIZE)
        self.load = Prefix(SIZE, next(_writers))
        self.calls = []
        self.caller = None

    def begin(self, wait=True, **setting):
        super().begin(wait, **{"DeltaUpdateInterval": "PT1S", **setting})

    # ---- hosts

    def run(self):
        self.load.run(self.url)

    def writes_go_on(self, more=100):
        before = self.load.written
        until(lambda: self.load.written > before + more or self.load.error, 20, "hosts write")
        assert self.load.error is None

    def on_target(self):
        return host(self.there.url(self.made))

    # ---- what is told

    def point(self):
        text = self.shown()["LastConsistentPoint"]
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0

    def after_now(self):
        """Until the target has everything that was written before the call."""
        now = time.time() + 0.001
        until(lambda: self.point() >= now, 30, "a point after now")

    def row(self, column):
        return self.site.smirror.query(f"SELECT {column} FROM cycles WHERE sync_id = ?", self.sync.rsplit("/", 1)[1])[0][0]

    def row_is(self, way):
        """A cycle that goes that way is under way, and has left a checkpoint behind."""
        until(lambda: self.row("way") == way and 0 < self.row("checkpoint_bytes") < SIZE, 30, "a cycle that moves", interval=0.02)

    def is_torn(self):
        shown = self.shown()
        assert "no moment" in shown["Problem"] and shown["LastConsistentPoint"] is None and shown["LagSeconds"] is None, shown

    # ---- operations that go on while something happens

    def asks(self, operation, **more):
        def call():
            try:
                self.calls.append(self.do(operation, expect=(200, 409, 500, 503, 504), **more).status)
            except (OSError, HTTPException):
                self.calls.append(None)

        self.caller = threading.Thread(target=call, daemon=True)
        self.caller.start()

    def asked(self):
        return self.caller is not None

    def answer(self):
        """Its status; None: there was nobody to answer."""
        self.caller.join(60 * SLOWNESS)
        self.caller = None
        return self.calls.pop()

    # ---- afterwards

    def is_whole(self):
        """Both sides are equal, and hold what hosts were told is there."""
        self.limit(0)
        self.client.completed(self.job, 60 * SLOWNESS)
        shown = self.reaches(4)
        assert shown["Problem"] is None and shown["PercentSynced"] == 100, shown
        written = self.load.rest()
        if self.shown()["UpdateInterval"] == "PT1S":
            self.after_now()
        else:
            self.do("Split")
        self.equal()
        assert self.load.moment(self.there.content(self.made)) == written
        assert self.shown()["LagSeconds"] <= 5 * SLOWNESS

    def is_a_moment(self):
        """What hosts of the target have got."""
        last = self.load.moment(self.there.content(self.made))
        assert last <= self.load.written
        return last


@pytest.fixture
def make_pair(site):
    made = []

    def make(kind):
        made.append(Pair(site, kind))
        return made[-1]

    yield make
    for pair in made:
        pair.load.ends()


# ---- moments, and what is to be true of each when the fault is gone

class Moment:
    def __init__(self, pair):
        self.pair = pair

    def prepare(self):
        """Until it could be entered at once."""

    def enter(self):
        """It is in its middle for some seconds from now on."""

    def away(self):
        """The target is gone, and that is told; hosts do not notice."""
        shown = self.pair.reaches(16)
        assert shown["Problem"] and shown["ProgressStatus"] == 3, shown
        self.pair.writes_go_on()
        assert self.pair.shown()["CopyState"] == 16

    def ends(self):
        self.pair.is_whole()


class InitialCopy(Moment):
    def prepare(self):
        self.pair.run()
        self.pair.writes_go_on(SIZE // PAGE)

    def enter(self):
        self.pair.begin(wait=False, BandwidthLimit=RATE)
        self.pair.in_the_middle()


class Cycle(Moment):
    RATE = RATE
    SETTING = {}

    def prepare(self):
        self.pair.begin(**self.SETTING)
        self.pair.run()
        self.pair.writes_go_on(SIZE // PAGE)
        self.pair.after_now()

    def enter(self):
        self.pair.limit(self.RATE)
        self.pair.row_is(FORWARD)

    def ends(self):
        pair = self.pair
        pair.limit(0)
        pair.reaches(4)
        pair.do("Fracture")
        pair.is_a_moment()
        pair.do("Resync Replica")
        pair.is_whole()


class Resync(Moment):
    def prepare(self):
        pair = self.pair
        pair.begin()
        pair.run()
        pair.do("Fracture")
        pair.writes_go_on(SIZE // PAGE)
        pair.limit(RATE)

    def enter(self):
        self.pair.do("Resync Replica")
        self.pair.in_the_middle()


class Held(Cycle):
    """A link that is back is waited for until somebody says so."""

    SETTING = {"CopyRecoveryMode": 3}

    def ends(self):
        pair = self.pair
        shown = pair.reaches(9)
        assert shown["Problem"] and shown["LagBytes"] is None and shown["ProgressStatus"] == 25, shown
        pair.writes_go_on()
        assert pair.shown()["CopyState"] == 9
        pair.do("Resume")
        pair.is_whole()


class Torn(Cycle):
    """Hosts get the target while it is away: it says that it is no moment."""

    def away(self):
        super().away()
        pair = self.pair
        assert pair.shown()["LagBytes"] > 0
        pair.load.rest()
        pair.do("Failover", Force=True, expect=200)
        pair.is_torn()

    def ends(self):
        pair = self.pair
        pair.limit(0)
        pair.do("Failback")
        pair.client.completed(pair.job)
        assert pair.reaches(4)["Problem"] is None
        pair.do("Split")
        pair.equal()


class Undo(Cycle):
    """The target becomes a moment again for its hosts."""

    RATE = 4 * RATE

    def enter(self):
        super().enter()
        self.pair.asks("Fracture")
        self.pair.reaches(6)

    def away(self):
        assert self.pair.answer() == 200
        self.pair.writes_go_on()
        if self.pair.shown()["Problem"] is not None:
            self.pair.is_torn()

    def ends(self):
        pair = self.pair
        pair.limit(0)
        assert not pair.asked() or pair.answer() in (200, None)
        until(lambda: pair.row("way") == 0, 30, "it is undone, or given up")
        if pair.shown()["Problem"] is None:
            pair.is_a_moment()
        pair.do("Resync Replica")
        pair.is_whole()


class Failover(Moment):
    """The last cycle, for which hosts are stopped."""

    def prepare(self):
        pair = self.pair
        pair.begin(DeltaUpdateInterval="PT1H")
        pair.run()
        pair.writes_go_on(SIZE // PAGE)
        pair.load.rest()
        pair.limit(RATE)

    def enter(self):
        self.pair.asks("Failover")
        self.pair.row_is(FORWARD)

    def away(self):
        self.pair.client.until(self.pair.sync, lambda r: r["CopyState"] in (16, 10), 30 * SLOWNESS)

    def ends(self):
        pair = self.pair
        pair.limit(0)
        answer = pair.answer()
        shown = pair.client.until(pair.sync, lambda r: r["CopyState"] in (4, 10), 30 * SLOWNESS)
        assert answer is None or (shown["CopyState"] == 10) == (answer == 200), (shown, answer)
        if shown["CopyState"] == 4:
            pair.run()  # they are let in again
            pair.writes_go_on()
            pair.load.rest()
            pair.do("Failover")
        assert pair.is_a_moment() == pair.load.written
        pair.load.run(pair.there.url(pair.made))
        pair.writes_go_on()
        pair.load.rest()
        pair.do("Failback")
        pair.is_whole()


class Failback(Moment):
    def prepare(self):
        pair = self.pair
        pair.begin()
        pair.do("Failover")
        pair.load.run(pair.there.url(pair.made))
        pair.writes_go_on(SIZE // PAGE)
        pair.load.rest()
        pair.limit(RATE)

    def enter(self):
        self.pair.do("Failback")
        self.pair.in_the_middle()

    def away(self):
        pair = self.pair
        until(lambda: pair.shown()["CopyState"] == 16 or pair.client.get(pair.job)["JobState"] == 7, 30, "it is told, or was done before")
        if pair.shown()["CopyState"] == 16:
            with host(pair.url) as session, pytest.raises(ScsiError):  # at once
                session.write(0, bytes(PAGE))


class GivenUp(Failback):
    """Hosts go back to the target, and what they write there is in the next one."""

    def ends(self):
        pair = self.pair
        pair.do("Failover", Force=True)
        pair.load.run(pair.there.url(pair.made))
        pair.writes_go_on(SIZE // PAGE)
        pair.load.rest()
        pair.limit(0)
        pair.do("Failback")
        pair.is_whole()


MOMENTS = (InitialCopy, Cycle, Resync, Undo, Failover, Failback)


def each(there, what):
    """With all at the same time."""
    with futures.ThreadPoolExecutor(len(there)) as threads:
        for done in [threads.submit(getattr(moment, what)) for moment in there]:
            done.result()


def moments(make_pair, *kinds, more=()):
    there = [moment(make_pair(kind)) for moment, kind in (*zip(MOMENTS, itertools.cycle(kinds)), *more)]
    each(there, "prepare")
    each(there, "enter")
    return there


def all_end(there):
    each(there, "ends")
    for moment in there:
        moment.pair.end()


def test_link_cut(site, make_pair):
    there = moments(make_pair, "tgtd", "smirrord", more=((Held, "tgtd"), (Torn, "tgtd"), (Torn, "smirrord")))
    for target in (site.peer, site.array):
        target.proxy.refuse = True
        target.proxy.cut()
    try:
        each(there, "away")
    finally:
        for target in (site.peer, site.array):
            target.proxy.refuse = False
    all_end(there)


def test_peer_killed(site, make_pair):
    there = moments(make_pair, "smirrord", "tgtd")
    for target in (site.peer, site.array):
        target.kill()
    try:
        each(there, "away")
    finally:
        for target in (site.peer, site.array):
            target.start()
    all_end(there)


def hosts_go_on(there):
    for moment in there:
        if moment.pair.load.running():
            moment.pair.writes_go_on()


@contextlib.contextmanager
def peers_stopped(site):
    for target in (site.peer, site.array):
        target.freeze()
    try:
        yield
    finally:
        for target in (site.peer, site.array):
            target.thaw()


def test_self_killed(site, make_pair):
    there = moments(make_pair, "smirrord", "tgtd", more=((GivenUp, "own"), (GivenUp, "smirrord")))
    site.smirror.kill()
    running = [moment for moment in there if moment.pair.load.is_lost()]
    site.smirror.start()
    for moment in running:
        moment.pair.run()
    all_end(there)


@pytest.mark.big
def test_peers_that_stay_stopped(site, make_pair):
    """Their connections stay open. A failover gives up in time and lets hosts go on; then it is noticed that the targets are away. Hosts of synchronous
    mirrors wait until then."""
    there = moments(make_pair, "smirrord", "tgtd")
    failover = there.pop(MOMENTS.index(Failover)).pair
    synchronous = [SyncPair(site, "tgtd"), SyncPair(site, "smirrord")]
    for pair, moment in zip(synchronous, (test_mirror_faults.in_sync, test_mirror_faults.resync)):
        moment(pair)
    with peers_stopped(site):
        assert failover.answer() == 504
        failover.run()
        failover.writes_go_on()
        hosts_go_on(there)
        each([moment for moment in there if not isinstance(moment, Undo)], "away")
        for pair in synchronous:
            test_mirror_faults.away(pair, test_mirror_faults.in_sync)
    all_end([*there, Moment(failover), *map(Moment, synchronous)])


# ---- no room

class FirstCycle(Cycle):
    """It needs room on the other side."""

    def prepare(self):
        self.pair.begin()

    def enter(self):
        self.pair.limit(RATE)
        self.pair.run()
        self.pair.row_is(FORWARD)


def test_targets_without_room_break_their_mirrors_and_resync_mends_them(site, make_pair):
    there = [InitialCopy(make_pair("smirrord")), Cycle(make_pair("own")), Resync(make_pair("own")), FirstCycle(make_pair("smirrord"))]
    each(there, "prepare")
    each(there, "enter")
    pools = [(site.peer.hosted, site.peer.pool), (site.hosted, site.targets["own"].pool)]
    for pool in pools:
        fill_up(*pool)
    try:
        for moment in there:
            moment.pair.limit(0)
        for moment in there:
            pair = moment.pair
            shown = pair.reaches(5)
            assert "space" in shown["Problem"] and shown["LagBytes"] is None and shown["LastConsistentPoint"] == pair.shown()["LastConsistentPoint"]
            if isinstance(moment, (InitialCopy, Resync)):
                assert "no_space" in pair.client.wait(pair.job)["LastError"]
            pair.writes_go_on()
        for moment in (there[1], there[3]):  # hosts can have the last point, and go back
            pair = moment.pair
            pair.load.rest()
            pair.do("Failover", Force=True)
            assert pair.shown()["Problem"] is None
            pair.load.goes_on_from(pair.is_a_moment())
            pair.do("Failback")
            pair.client.completed(pair.job)
            assert pair.load.moment(site.hosted.content(pair.source)) == pair.load.written
    finally:
        for pool in pools:
            make_room(*pool)
    for moment in (there[0], there[2]):
        moment.pair.do("Resync Replica")
    all_end([Moment(moment.pair) for moment in there])


def test_sources_without_room_wait_in_a_failback(site, make_pair):
    there = [Failback(make_pair(kind)) for kind in ("own", "tgtd")]
    each(there, "prepare")
    each(there, "enter")
    fill_up(site.hosted, site.pool)
    try:
        for moment in there:
            moment.pair.limit(0)
        for moment in there:
            pair = moment.pair
            until(lambda pair=pair: "space" in (pair.client.get(pair.job)["LastError"] or ""), 20, "it is told")
            assert pair.shown()["CopyState"] == 3
        site.smirror.kill()
        site.smirror.start()
        for moment in there:
            pair = moment.pair
            until(lambda pair=pair: "space" in (pair.client.get(pair.job)["LastError"] or ""), 20, "it is told")
    finally:
        make_room(site.hosted, site.pool)
    all_end([Moment(moment.pair) for moment in there])


def test_a_source_without_room_is_mirrored(site, make_pair):
    pair = make_pair("tgtd")
    pair.begin()
    with host(pair.url) as session:
        session.fill(0, SIZE // 2, 7)
        fill_up(site.hosted, site.pool)
        try:
            with pytest.raises(ScsiError):
                session.fill(SIZE // 2, SIZE // 2, 7)
            session.discard(0, 16 * PAGE)
            pair.after_now()
            pair.reaches(4)
            pair.equal()
        finally:
            make_room(site.hosted, site.pool)
        session.fill(SIZE // 2, SIZE // 2, 8)
    pair.after_now()
    pair.equal()
    pair.end()


# ---- a directory that is gone, or takes nothing

def test_the_directory_of_the_source_is_gone(site, make_pair):
    """That is told, and its hosts can go to the target."""
    pool = site.hosted.make_pool("moved")
    pairs = []
    for kind in ("own", "smirrord"):
        with_pool(site, pool, lambda kind=kind: pairs.append(make_pair(kind)))
    for pair in pairs:
        pair.begin()
        pair.run()
        pair.writes_go_on()
        pair.load.rest()
        pair.after_now()
    directory = site.hosted.directory(pool)
    site.smirror.kill()
    away = directory.with_name("away")
    directory.rename(away)
    site.smirror.start()
    for pair in pairs:
        shown = pair.reaches(16)
        assert directory.name in shown["Problem"] and shown["LagSeconds"] is not None, shown
    pairs[1].do("Failover", Force=True, expect=200)
    site.smirror.kill()
    if directory.exists():
        shutil.rmtree(directory)
    away.rename(directory)
    site.smirror.start()
    pairs[1].do("Failback")
    all_end([Moment(pair) for pair in pairs])


def with_pool(site, pool, make):
    before, site.pool = site.pool, pool
    try:
        make()
    finally:
        site.pool = before


class Eager(threading.Thread):
    """Tries to log in and write, until it is let in."""

    def __init__(self, pair):
        super().__init__(daemon=True)
        self.pair = pair
        self.start()

    def run(self):
        url = self.pair.there.url(self.pair.made)

        def written():
            try:
                with host(url) as session:
                    session.fill(0, PAGE, 99)
                return True
            except (ScsiError, ConnectionError):
                return False

        until(written, 30, "it is let in")


def test_hosts_are_let_in_when_the_target_is_its_point(site, make_pair):
    """Its pool takes no file meanwhile, so that lasts; nothing of the cycle is served, not after a crash either."""
    pair = make_pair("own")
    moment = Cycle(pair)
    moment.prepare()
    moment.enter()
    pair.load.rest()
    directory = site.hosted.directory(site.targets["own"].pool)
    os.chmod(directory, 0o500)
    try:
        pair.asks("Fracture")
        pair.reaches(6)
        assert pair.client.get(pair.made)["WriteProtected"]
        assert pair.answer() == 500  # what it waits for does not come
        with pair.on_target() as session, pytest.raises(ScsiError):
            session.write(0, bytes(PAGE))
        site.smirror.kill()
    finally:
        os.chmod(directory, 0o700)
    site.smirror.start()
    eager = Eager(pair)
    pair.client.until(pair.made, lambda v: not v["WriteProtected"], 30 * SLOWNESS)
    eager.join()
    assert site.hosted.writers(pair.made, 0, PAGE) == {99}
    pair.limit(0)
    pair.do("Restore from Replica")
    pair.client.completed(pair.job)
    pair.reaches(4)
    pair.do("Split")
    assert site.hosted.writers(pair.source, 0, PAGE) == {99}
    pair.equal()
    pair.end()
