# SPDX-License-Identifier: Apache-2.0
"""smirrord, the real binary, with its data directory: started, killed, stopped, started again."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

from client import Client
from process import SLOWNESS, SMIRRORD, hand_over, ordinary_user, start_process, stop_process, until

# What must be in no log, whatever the test is about.
_REPORTS = re.compile(r"ERROR: (Address|Leak|Thread|Memory)Sanitizer|WARNING: ThreadSanitizer|runtime error:|"
                      r"SUMMARY: \w+Sanitizer|check failed at ")
STOP_SECONDS = 5


class Smirror:
    def __init__(self, directory, *options, environment=None, start=True, binary=SMIRRORD):
        self.binary = binary
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / "data"
        self.user = ordinary_user(self.directory, Path(binary).parent)
        hand_over(self.directory, self.user)
        self.options = list(options)
        self.environment = environment or {}
        self.process = None
        self.ready = None
        self.starts = 0
        self.before = []  # what stands before the program's name, such as a shell that sets limits
        self.client = None
        if start:
            self.start()

    @property
    def log_file(self):
        return self.directory / "smirrord.log"

    @property
    def http(self):
        return self.ready["http"]

    def spawn(self, *more, **popen):
        """Starts the process and does not wait for it."""
        self.starts += 1
        self.ready_file = self.directory / f"ready{self.starts}.json"
        environment = dict(os.environ, **self.environment)
        environment.setdefault("ASAN_OPTIONS", "abort_on_error=0:exitcode=86:detect_leaks=1")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        environment.setdefault("TSAN_OPTIONS", "halt_on_error=0:exitcode=86:second_deadlock_stack=1")
        with open(self.log_file, "ab") as log:
            log.write(f"---- start {self.starts}\n".encode())
            log.flush()
            self.process = start_process(
                [*self.before, str(self.binary), "--data", str(self.data), "--http", "127.0.0.1:0", "--iscsi", "127.0.0.1:0",
                 "--ready-file", str(self.ready_file), *self.options, *more],
                env=environment, cwd=self.directory, **{"stdout": log, "stderr": log, **popen}, **self.user)

    def start(self, *more):
        self.spawn(*more)
        self.wait_ready()
        return self

    def wait_ready(self):
        try:
            until(self._read_ready, 15, "smirrord is ready", self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None
        header = Path(self.ready["auth_header_file"]).read_text().strip()
        name, token = header.split(": Bearer ")
        assert name == "Authorization", header
        if self.client is None:
            self.client = Client(lambda: self.http, token, timeout=60 * SLOWNESS)
        else:
            assert self.client.token == token, "the token is another one after a restart"

    def _read_ready(self):
        try:
            self.ready = json.loads(self.ready_file.read_text())
        except (FileNotFoundError, ValueError):
            return False
        return True

    def kill(self):
        """kill -9."""
        stop_process(self.process, signal.SIGKILL, 10)

    def stop(self, within=STOP_SECONDS):
        """SIGTERM; returns the seconds that it took. Fails when that is too long, or the exit code is not 0."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(within * SLOWNESS + 5)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there {within * SLOWNESS + 5} s after SIGTERM\n{self.log()[-4000:]}") from None
        took = time.monotonic() - began
        assert code == 0, f"ended with {code} after SIGTERM\n{self.log()[-4000:]}"
        assert took < within * SLOWNESS, f"took {took:.1f} s to end after SIGTERM"
        return took

    def restart(self, *more):
        """kill -9 and a new start."""
        self.kill()
        return self.start(*more)

    def close(self):
        """The end of a test: in order when it still runs; raises when its log has a report of a fault."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
            elif self.process is not None:
                code = self.process.returncode
                assert code in (0, -signal.SIGKILL), f"smirrord has ended with {code}\n{self.log()[-4000:]}"
        finally:
            if self.process is not None and self.process.poll() is None:
                self.kill()
        self.check_log()

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def check_log(self):
        text = self.log()
        found = _REPORTS.search(text)
        if found:
            at = max(0, found.start() - 300)
            raise AssertionError(f"a report in the log of smirrord:\n{text[at:at + 6000]}")

    # ---- the records, read beside the service

    @property
    def database(self):
        found = [path for path in self.data.iterdir() if path.suffix in (".db", ".sqlite", ".sqlite3")]
        assert len(found) == 1, f"one database in {self.data}: {sorted(p.name for p in self.data.iterdir())}"
        return found[0]

    def query(self, sql, *arguments):
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql, arguments).fetchall()
        finally:
            connection.close()

    def records(self, but=()):
        """Everything that is in the database, by table; tables and columns (table.column) of `but` left out."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            connection.execute("BEGIN")
            result = {}
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name").fetchall():
                if table in but or table.startswith("sqlite_stat"):
                    continue
                columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")').fetchall()]
                columns = [name for name in columns if f"{table}.{name}" not in but]
                if not columns:
                    continue
                chosen = ", ".join(f'"{name}"' for name in columns)
                result[table] = sorted(connection.execute(f'SELECT {chosen} FROM "{table}"').fetchall())
            return result
        finally:
            connection.close()
