# SPDX-License-Identifier: Apache-2.0
"""Asynchronous mirrors whose target is away for a while: what is told meanwhile, who says that it goes on, and how it catches up."""

import contextlib

from test_async_faults import Pair, SIZE, make_pair, site  # noqa: F401 (fixtures)

from prefix import PAGE


@contextlib.contextmanager
def away(site, *pairs):
    for target in {pair.there for pair in pairs}:
        target.proxy.refuse = True
        target.proxy.cut()
    try:
        for pair in pairs:
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
