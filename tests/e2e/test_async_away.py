# SPDX-License-Identifier: Apache-2.0
"""Asynchronous mirrors whose target is away for a while: what is told meanwhile, who says that it goes on, and how it catches up."""

import contextlib
import time

from test_async_faults import Pair, SIZE, make_pair, site  # noqa: F401 (fixtures)

from events import Stream
from prefix import PAGE
from process import MIB, SLOWNESS

PART = MIB // 4


@contextlib.contextmanager
def away(site, *pairs, meanwhile=lambda pair: None):
    for target in {pair.there for pair in pairs}:
        target.proxy.refuse = True
        target.proxy.cut()
    try:
        for pair in pairs:
            meanwhile(pair)
            pair.reaches(16)
        yield
    finally:
        for target in {pair.there for pair in pairs}:
            target.proxy.refuse = False


def under_load(make_pair, kind, **setting):
    pair = make_pair(kind)
    pair.begin(**setting)
    pair.run()
    pair.writes_go_on(SIZE // PAGE)
    pair.after_now()
    return pair


def test_who_waits_for_resume_does_so_over_a_restart(site, make_pair):  # noqa: F811
    """CopyRecoveryMode 3: the target comes back while nobody looks, to one whose hosts write on and to one that rests."""
    pairs = [under_load(make_pair, "tgtd", CopyRecoveryMode=3), under_load(make_pair, "smirrord", CopyRecoveryMode=3)]
    with away(site, *pairs):
        pairs[1].load.rest()
        points = [pair.point() for pair in pairs]
        site.smirror.kill()
        assert pairs[0].load.is_lost()
    site.smirror.start()
    pairs[0].run()
    for pair in pairs:
        shown = pair.reaches(9)
        assert shown["ProgressStatus"] == 25 and shown["LagBytes"] is None, shown
    pairs[0].writes_go_on()
    assert [(pair.shown()["CopyState"], pair.point()) for pair in pairs] == [(9, point) for point in points]
    for pair in pairs:
        pair.do("Resume")
        pair.is_whole()
        pair.end()


class Lagging:
    """A pair of which parts are written."""

    def __init__(self, pair, **setting):
        self.pair = pair
        pair.begin(**setting)
        self.parts = 0

    def write(self, _pair=None):
        self.pair.site.hosted.fill(self.pair.source, self.parts + 1, self.parts * PART, PART)
        self.parts += 1

    def lags(self, least, most, timeout=20):
        """By so many bytes; and the age of the point is that."""
        client, sync = self.pair.client, self.pair.sync
        shown = client.until(sync, lambda r: r["LagBytes"] is not None and least <= r["LagBytes"] <= most, timeout * SLOWNESS)
        began = time.time()
        shown = self.pair.shown()
        age = [int(now - self.pair.point()) for now in (began, time.time())]
        assert age[0] - 1 <= shown["LagSeconds"] <= age[1] + 1, (shown, age)
        return shown


def states_of(stream, sync):
    """The CopyStates that were told until it is Synchronized again."""
    seen = stream.until(lambda event: event.path == sync and event.object["CopyState"] == 4)
    told = [event.object["CopyState"] for event in seen if event.path == sync]
    return [state for state, last in zip(told, [None, *told]) if state != last]


def seconds(interval):
    return float(interval.removeprefix("PT").removesuffix("S"))


def test_lag_tells_the_truth_while_targets_are_away_and_cycles_catch_up(site, make_pair):  # noqa: F811
    """By interval, by recovery point objective, by blocks; over a crash of ours."""
    by_interval = Lagging(make_pair("tgtd"))
    by_rpo = Lagging(make_pair("smirrord"), DeltaUpdateInterval="PT1H", DesiredRPO="PT2S")
    by_blocks = Lagging(make_pair("tgtd"), DeltaUpdateInterval="PT1H", DeltaUpdateBlocks=PART // 512)
    there = [by_interval, by_rpo, by_blocks]
    pairs = [each.pair for each in there]
    for each in there:
        each.write()
        each.pair.after_now()
    before = [pair.shown() for pair in pairs]
    outage = time.time()
    with away(site, *pairs, meanwhile=lambda pair: there[pairs.index(pair)].write()):
        points = [pair.point() for pair in pairs]
        for each in there:
            each.lags(PART, PART * 1.2)
            each.write()
            each.lags(2 * PART, 2 * PART * 1.2)
        for pair in pairs:
            pair.client.until(pair.sync, lambda r: r["LagSeconds"] >= 4, 20 * SLOWNESS)
        site.smirror.kill()
        site.smirror.start()
        for each in there:
            each.lags(2 * PART, 2 * PART * 1.2)
            each.pair.reaches(16)
        assert [pair.point() for pair in pairs] == points
        stream = Stream(site.smirror, "?class=StorageSynchronized")
        outage = int(time.time() - outage)
    with stream:
        states = states_of(stream, by_interval.pair.sync)
    assert states == sorted(set(states), key=[16, 3, 4].index), states  # each once, in that order
    for each, was in zip(there, before):
        pair = each.pair
        pair.reaches(4)
        shown = each.lags(0, 0)
        assert shown["Problem"] is None and shown["CycleBytes"] - was["CycleBytes"] <= 2 * PART * 1.1, (was, shown)
        assert seconds(shown["AchievedRPO99"]) >= outage, (outage, shown)
    each = by_blocks
    site.hosted.fill(each.pair.source, 9, SIZE - PAGE, PAGE)
    each.lags(PAGE, 4 * PAGE)  # too little, for an hour
    for each in there:
        each.write()
        each.pair.after_now()
        assert each.lags(0, 0)["CopyState"] == 4
        each.pair.do("Split")
        each.pair.equal()
        each.pair.end()
