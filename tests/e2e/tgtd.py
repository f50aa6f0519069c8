# SPDX-License-Identifier: Apache-2.0
"""tgtd, the foreign array of the tests: unprivileged, on a loopback port, told by tgtadm.

What it was told is kept, so that it can be killed and come back as it was. It ignores SIGTERM while it has targets, so
it is always ended by SIGKILL.
"""

import itertools
import os
import signal
import socket
from pathlib import Path

from process import free_port, hand_over, ordinary_user, program, run_quiet, start_process, stop_process, until

TUNED = {
    "MaxRecvDataSegmentLength": "262144", "MaxXmitDataSegmentLength": "262144", "FirstBurstLength": "262144",
    "MaxBurstLength": "1048576", "InitialR2T": "No", "ImmediateData": "Yes", "MaxOutstandingR2T": "8",
}
# glibc gives buffers back to the system and faults them in again; for figures that hold it should not.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824",
               "MALLOC_TOP_PAD_": "67108864"}

_serial = itertools.count(1)


class Lun:
    def __init__(self, target, number, path, size, options):
        self.target = target
        self.number = number
        self.path = path
        self.size = size
        self.options = options

    @property
    def url(self):
        return self.url_at(f"127.0.0.1:{self.target.array.port}")

    def url_at(self, portal):
        return f"iscsi://{portal}/{self.target.name}/{self.number}"


class Target:
    def __init__(self, array, tid, name, tuned, chap, mutual):
        self.array = array
        self.tid = tid
        self.name = name
        self.tuned = tuned
        self.chap = chap
        self.mutual = mutual
        self.luns = {}

    def lun(self, path, size=None, number=None, bs="rdwr", thin=False, block=512, scsi_id=None, scsi_sn=None,
            online=True):
        """A LUN with a backing file, which is made sparse where it is not there. number None: the next."""
        if bs != "null":
            if size is not None:
                with open(path, "ab") as file:
                    file.truncate(size)
            size = os.stat(path).st_size
            hand_over(path, self.array.user)
        number = number or max(self.luns, default=0) + 1
        unique = f"{os.getpid():x}{next(_serial):x}"
        lun = Lun(self, number, path, size, {
            "bs": bs, "thin": thin, "block": block, "scsi_id": scsi_id or f"smirror-test-{unique}",
            "scsi_sn": scsi_sn or f"sn{unique}"})
        self.luns[number] = lun
        if online:
            self.array._tell_lun(self, lun)
        return lun

    def remove(self, lun):
        self.array.admin("--op", "delete", "--mode", "logicalunit", "--tid", str(self.tid), "--lun", str(lun.number))
        del self.luns[lun.number]


class Tgtd:
    def __init__(self, directory, port=None, keep_memory=False):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.user = ordinary_user(self.directory)
        hand_over(self.directory, self.user)
        self.port = port or free_port()
        self.targets = []
        self.accounts = {}
        self.keep_memory = keep_memory
        self.process = None
        self.starts = 0
        self.start()

    @property
    def portal(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Starts it, and tells it again what it was told before. Nobody can log in before all of it is there."""
        self.starts += 1
        self.socket = str(self.directory / f"ipc{self.starts}")
        environment = dict(os.environ, TGT_IPC_SOCKET=self.socket)
        if self.keep_memory:
            environment.update(KEEP_MEMORY)
        self.log = open(self.directory / "tgtd.log", "ab")  # pylint: disable=consider-using-with
        self.environment = environment
        for attempt in range(5):
            self.process = start_process(
                [program("tgtd"), "-f", "-d", "0", "--iscsi", f"portal=127.0.0.1:{self.port}", "-C", "0"],
                env=environment, stdout=self.log, stderr=self.log, **self.user)
            try:
                until(self._listens, 10, "tgtd listens", self.process)
                break
            except AssertionError:
                if self.process.poll() is None or attempt == 4:
                    self.kill()
                    raise AssertionError(f"tgtd does not start: {self.log_text()[-2000:]}") from None
                # The port may have been taken by another test in the meantime; with targets it must stay the same.
                if not self.targets:
                    self.port = free_port()
        for user, password in self.accounts.items():
            self._tell_account(user, password)
        for target in self.targets:
            self._tell_target(target)
            for lun in target.luns.values():
                self._tell_lun(target, lun)
            self._open(target)

    def _listens(self):
        if not os.path.exists(f"{self.socket}.0"):
            return False
        with socket.socket() as sock:
            sock.settimeout(1)
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def log_text(self):
        return (self.directory / "tgtd.log").read_text(errors="replace")

    def admin(self, *arguments):
        return run_quiet([program("tgtadm"), "--lld", "iscsi", "-C", "0", *arguments], env=self.environment, **self.user)

    def kill(self):
        """kill -9."""
        stop_process(self.process, signal.SIGKILL, 10)
        self.log.close()

    def restart(self):
        self.kill()
        self.start()

    def freeze(self):
        """It answers no more, and its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def target(self, name=None, tuned=True, chap=None, mutual=None):
        """A target; chap and mutual are (user, password): what we must answer with, and what it answers with."""
        tid = len(self.targets) + 1
        name = name or f"iqn.2026-11.test.array:{self.port}.{tid}"
        target = Target(self, tid, name, tuned, chap, mutual)
        self.targets.append(target)
        for account in (chap, mutual):
            if account and account[0] not in self.accounts:
                self.accounts[account[0]] = account[1]
                self._tell_account(*account)
        self._tell_target(target)
        self._open(target)
        return target

    def connections(self):
        """Number of sessions at the moment."""
        return self.admin("--op", "show", "--mode", "target").count("I_T nexus: ")

    # ---- what tgtadm is told

    def _tell_account(self, user, password):
        self.admin("--op", "new", "--mode", "account", "--user", user, "--password", password)

    def _tell_target(self, target):
        tid = str(target.tid)
        self.admin("--op", "new", "--mode", "target", "--tid", tid, "-T", target.name)
        if target.tuned:
            for name, value in TUNED.items():
                self.admin("--op", "update", "--mode", "target", "--tid", tid, "--name", name, "--value", value)
        if target.chap:
            self.admin("--op", "bind", "--mode", "account", "--tid", tid, "--user", target.chap[0])
        if target.mutual:
            self.admin("--op", "bind", "--mode", "account", "--tid", tid, "--user", target.mutual[0], "--outgoing")

    def _tell_lun(self, target, lun):
        tid, number, options = str(target.tid), str(lun.number), lun.options
        self.admin("--op", "new", "--mode", "logicalunit", "--tid", tid, "--lun", number, "--backing-store",
                   str(lun.path), "--bstype", options["bs"], "--blocksize", str(options["block"]))
        parameters = [f"scsi_id={options['scsi_id']}", f"scsi_sn={options['scsi_sn']}"]
        if options["thin"]:
            parameters.append("thin_provisioning=1")
        self.admin("--op", "update", "--mode", "logicalunit", "--tid", tid, "--lun", number, "--params",
                   ",".join(parameters))

    def _open(self, target):
        self.admin("--op", "bind", "--mode", "target", "--tid", str(target.tid), "-I", "ALL")
