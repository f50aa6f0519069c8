#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts for ./test: of one step (count.py DIR NAME STATUS SECONDS), or of all (count.py DIR total SECONDS).

The numbers come from the JUnit files that pytest and ctest write, or from NAME.count of a step that has none. A step whose command
has failed although nothing in its file has counts as one failure more.
"""

import sys
import xml.etree.ElementTree
from pathlib import Path


def junit(path):
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"} or case.get("status") == "fail":
            failed += 1
        elif "skipped" in kinds or case.get("status") in ("disabled", "notrun"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def failures(path):
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        for child in case:
            if child.tag in ("failure", "error"):
                yield case.get("name"), (child.text or child.get("message") or "").splitlines()
        if case.get("status") == "fail" and not [child for child in case if child.tag in ("failure", "error")]:
            yield case.get("name"), (case.findtext("system-out") or "").splitlines()


def step(directory, name, status, seconds):
    counted = directory / f"{name}.count"
    if counted.exists():
        passed, failed, skipped = map(int, counted.read_text().split())
    else:
        totals = [junit(path) for path in directory.glob(f"{name}*.xml")]
        passed, failed, skipped = (sum(column) for column in zip(*totals))
        if status and not failed:
            failed = 1
        counted.write_text(f"{passed} {failed} {skipped}\n")
    word = "ok    " if not status and not failed else "FAILED"
    print(f"{word} {name:<16} {passed:5} passed {failed:3} failed {skipped:3} skipped {seconds:5} s", flush=True)


def total(directory, seconds):
    totals = [tuple(map(int, path.read_text().split())) for path in directory.glob("*.count")]
    passed, failed, skipped = (sum(column) for column in zip(*totals)) if totals else (0, 1, 0)
    # What failed, once more and short: a log that was cut in the middle still says it.
    for path in sorted(directory.glob("*.xml")):
        for name, lines in failures(path):
            print(f"---- {path.stem}: {name}")
            said = [line for line in lines if line.startswith("E ")] or lines[-8:]
            print("\n".join(line[:300] for line in said[:12]))
    print(f"all of it: {seconds // 60} min {seconds % 60} s")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    if sys.argv[2] == "total":
        total(Path(sys.argv[1]), int(sys.argv[3]))
    else:
        step(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
