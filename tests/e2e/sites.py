# SPDX-License-Identifier: Apache-2.0
"""Two sites: a smirrord with the sources of mirrors, a second one and tgtd with their targets, each behind a proxy; pairs of volumes under a stamped load."""

import itertools
import signal

from client import ENDED
from conftest import World
from faults import Proxy
from hosted import CREATE, POOL, Hosted, Lost, Stamp
from process import MIB, SLOWNESS, free_port, until
from smirror import Smirror

ATTACH = "AttachOrModifyReplica"
SIZE = 8 * MIB
_seeds = itertools.count(1)


class Array:
    """tgtd."""

    def __init__(self, site):
        self.site = site
        self.proxy = Proxy(site.world.array.port)

    def make(self, size=SIZE):
        return self.site.world.lun(size, thin=True)

    def register(self, made):
        return self.site.client.volume_of(made.url_at(self.proxy.portal))

    def url(self, made):
        return made.url

    def content(self, made):
        with open(made.path, "rb") as file:
            return file.read(made.size)

    def drop(self, made, volume):
        self.site.client.delete(volume)
        made.target.remove(made)

    def kill(self):
        self.site.world.array.kill()

    def start(self):
        self.site.world.array.start()

    def freeze(self):
        self.site.world.array.freeze()

    def thaw(self):
        self.site.world.array.thaw()


class Peer:
    """The second smirrord."""

    def __init__(self, site, directory):
        self.site = site
        port = free_port()
        self.smirror = Smirror(directory, "--iscsi", f"127.0.0.1:{port}", "--reach-interval", "1h")
        self.hosted = Hosted(self.smirror)
        self.pool = self.hosted.make_pool("targets", 1 << 30)
        self.proxy = Proxy(port)

    def make(self, size=SIZE):
        return self.hosted.make(size, self.pool)

    def url(self, made):
        return self.hosted.url(made)

    def register(self, made):
        return self.site.client.volume_of(self.url(made).replace(self.smirror.ready["iscsi"], self.proxy.portal))

    def content(self, made):
        return self.hosted.content(made)

    def drop(self, made, volume):
        self.site.client.delete(volume)
        self.hosted.delete(made)

    def kill(self):
        self.smirror.kill()

    def start(self):
        self.smirror.start()

    def freeze(self):
        self.smirror.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.smirror.process.send_signal(signal.SIGCONT)


class Own:
    """A pool of the first one."""

    def __init__(self, site):
        self.hosted = site.hosted
        self.pool = self.hosted.make_pool("replicas", 1 << 30)
        self.proxy = None

    def make(self, size=SIZE):
        return self.hosted.make(size, self.pool)

    def register(self, made):
        return made

    def url(self, made):
        return self.hosted.url(made)

    def content(self, made):
        return self.hosted.content(made)

    def drop(self, made, _volume):
        self.hosted.delete(made)


class Site:
    def __init__(self, room):
        self.world = World(room, "--reach-interval", "1h")
        self.client = self.world.client
        self.smirror = self.world.smirror
        self.hosted = Hosted(self.smirror)
        self.pool = self.hosted.make_pool("sources", 1 << 30)
        self.peer = Peer(self, self.world.directory / "peer")
        self.array = Array(self)
        self.targets = {"smirrord": self.peer, "tgtd": self.array, "own": Own(self)}

    def close(self):
        try:
            for target in (self.peer, self.array):
                target.proxy.close()
            self.peer.smirror.close()
        finally:
            self.world.close()


def fill_up(hosted, pool):
    """The pool takes nothing more."""
    client = hosted.client
    size = 0

    def refused():
        nonlocal size
        answer = client.method(POOL, {"Pool": pool, "Size": max(size, 1)}, expect=(200, 422))
        size = answer["Size"]
        return answer.status == 200

    until(refused, 10, "the pool is full")


def make_room(hosted, pool):
    hosted.client.method(POOL, {"Pool": pool, "Size": 1 << 30}, expect=200)


class Relationship:
    """A volume of ours, its mirror elsewhere, and what there is between them."""

    MODE, COPY_TYPE = 2, 3

    def __init__(self, site, kind, size=SIZE):
        self.site = site
        self.client = site.client
        self.there = site.targets[kind]
        self.proxy = self.there.proxy
        self.source = site.hosted.make(size, site.pool)
        self.made = self.there.make(size)
        self.target = self.there.register(self.made)
        self.sync = None
        self.job = None

    @property
    def url(self):
        return self.site.hosted.url(self.source)

    def shown(self):
        return self.client.get(self.sync)

    def reaches(self, state, timeout=30):
        return self.client.until(self.sync, lambda r: r["CopyState"] == state, timeout * SLOWNESS)

    def begin(self, wait=True, **setting):
        body = {"SyncType": 6, "Mode": self.MODE, "SourceElement": self.source, "TargetElement": self.target,
                "ReplicationSettingData": setting}
        answer = self.client.method(CREATE, body, expect=202)
        self.sync, self.job = answer["Synchronization"], answer["Job"]
        if wait:
            self.client.completed(self.job, 60 * SLOWNESS)
            self.reaches(4)

    def limit(self, rate):
        self.client.method(ATTACH, {"SourceElement": self.source, "TargetElement": self.target, "CopyType": self.COPY_TYPE,
                                    "Goal": {"BandwidthLimit": rate}}, expect=200)

    def do(self, operation, expect=(200, 202), **more):
        answer = self.site.hosted.modify(self.sync, operation, expect, **more)
        if answer.status == 202:
            self.job = answer["Job"]
        return answer

    def in_the_middle(self):
        self.client.until(self.job, lambda j: 0 < j["BytesDone"] < j["BytesTotal"], 30 * SLOWNESS)

    def equal(self):
        assert self.site.hosted.content(self.source) == self.there.content(self.made)

    def end(self):
        self.do("Detach", Force=True)
        jobs = self.client.list("/jobs")
        assert all(job["JobState"] in ENDED for job in jobs), jobs
        self.site.hosted.delete(self.source)
        self.there.drop(self.made, self.target)


class Pair(Relationship):
    """Under a stamped load."""

    def __init__(self, site, kind):
        super().__init__(site, kind)
        self.stamp = Stamp(next(_seeds))
        self.stamp("volume", "a", self.url, 1, 8)

    def run(self):
        self.stamp("run", "a")

    def rest(self):
        self.stamp("pause", "a")

    def writes_go_on(self, more=50):
        before = self.stamp.stats("a")["writes"]
        until(lambda: self.stamp.stats("a")["writes"] > before + more, 20, "hosts write")

    def moves_to(self, url, flushed=False):
        """Hosts log in somewhere else: all that they wrote is there, or all that they have flushed."""
        try:
            self.rest()
        except Lost:
            pass  # with their array; nothing was under way
        self.stamp("reconnect", "a", url, *([] if flushed else ["all"]))

    def is_whole(self):
        """It has come back by itself: both sides are equal, and hold what hosts were told is there."""
        self.limit(0)
        self.client.completed(self.job, 60 * SLOWNESS)
        shown = self.reaches(4)
        assert shown["Problem"] is None and shown["PercentSynced"] == 100, shown
        self.writes_go_on()
        self.rest()
        self.stamp("verify", "a", self.url)
        self.reaches(4)
        self.equal()

    def end(self):
        self.stamp.close()
        super().end()
