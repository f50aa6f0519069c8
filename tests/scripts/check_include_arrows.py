#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on an #include that the table of folders does not allow.

    check_include_arrows.py ROOT         checks the tree
    check_include_arrows.py --self-test  proves that each rule can fail

The table is that of docs/design (architecture): a folder may include itself and the folders listed behind it. Foreign
libraries are each seen in one place only.
"""

import pathlib
import re
import sys
import tempfile

ARROWS = {
    "api": {"service", "base"},
    "service": {"store", "replication", "hosting", "target", "block", "base"},
    "hosting": {"target", "block", "base"},
    "store": {"base"},
    "replication": {"block", "base"},
    "block": {"base"},
    "target": {"block", "base"},
    "base": set(),
    "daemon": {"api", "service", "store", "replication", "hosting", "target", "block", "base"},
}

# header pattern -> what may include it: a folder ("store/") or a file ("base/loop_uv.c").
FOREIGN = [
    (re.compile(r"^uv\.h$|^uv/"), "base/loop_uv.c"),
    (re.compile(r"^sqlite3\.h$"), "store/"),
    (re.compile(r"^microhttpd\.h$"), "api/"),
    (re.compile(r"^(cjson/)?cJSON\.h$"), "api/"),
]
LIBISCSI = re.compile(r"^iscsi/")
LIBISCSI_FOLDER = "block/"

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def check(root):
    """Returns the complaints about the tree below root."""
    complaints = []
    files = 0
    libiscsi_seen = {}
    for folder, allowed in ARROWS.items():
        for path in sorted((root / folder).rglob("*.[ch]")):
            files += 1
            name = path.relative_to(root).as_posix()
            for number, quote, header in includes(path):
                place = f"{name}:{number}"
                if quote == '"':
                    first = header.split("/")[0]
                    if "/" not in header or ".." in header or not (root / header).is_file():
                        complaints.append(f'{place}: "{header}" is not written from the root')
                    elif first != folder and first not in allowed:
                        complaints.append(f"{place}: {folder}/ may not include {first}/")
                elif header.split("/")[0] in ARROWS:
                    complaints.append(f"{place}: <{header}>: our own headers are included with quotes")
                for pattern, where in FOREIGN:
                    if pattern.match(header) and not name.startswith(where):
                        complaints.append(f"{place}: {header} belongs into {where} only")
                if LIBISCSI.match(header):
                    if not name.startswith(LIBISCSI_FOLDER):
                        complaints.append(f"{place}: {header} belongs into {LIBISCSI_FOLDER} only")
                    libiscsi_seen.setdefault(name, place)
    if len(libiscsi_seen) > 1:
        complaints.append("libiscsi is seen in more than one file: " + ", ".join(libiscsi_seen.values()))
    if files == 0:
        complaints.append(f"no source file below {root}: nothing was checked")
    return complaints


def self_test():
    header = {"base/a.h": "", "block/b.h": "", "store/s.h": "", "service/v.h": "", "replication/r.h": "",
              "target/t.h": "", "api/p.h": ""}
    good = {
        "base/loop_uv.c": '#include <uv.h>\n#include "base/a.h"\n',
        "block/x.c": '#include <iscsi/iscsi.h>\n#include <iscsi/scsi-lowlevel.h>\n#include "base/a.h"\n',
        "store/x.c": '#include <sqlite3.h>\n#include "store/s.h"\n',
        "api/x.c": '# include <microhttpd.h>\n#include <cjson/cJSON.h>\n#include "service/v.h"\n',
        "target/scsi/x.c": '#include "block/b.h"\n',
        "service/x.c": '#include "replication/r.h"\n#include "store/s.h"\n#include "target/t.h"\n',
        "daemon/x.c": '#include "api/p.h"\n#include "service/v.h"\n#include "base/a.h"\n',
    }
    bad = {
        "base/x.c": '#include "block/b.h"\n',
        "block/y.c": '#include "store/s.h"\n',
        "block/z.h": '#include "target/t.h"\n',
        "target/x.c": '#include "replication/r.h"\n',
        "replication/x.c": '  #  include "target/t.h"\n',
        "store/y.c": '#include "block/b.h"\n',
        "api/y.c": '#include "store/s.h"\n',
        "api/deep/y.h": '#include "block/b.h"\n',
        "service/y.c": '#include "api/p.h"\n',
        "service/z.c": '#include <sqlite3.h>\n',
        "service/cjson.c": '#include <cjson/cJSON.h>\n',
        "daemon/mhd.c": '#include <microhttpd.h>\n',
        "base/uv.c": '#include <uv.h>\n',
        "target/iscsi.c": '#include <iscsi/iscsi.h>\n',
        "block/second.c": '#include <iscsi/iscsi.h>\n',
        "block/short.c": '#include "b.h"\n',
        "block/up.c": '#include "../base/a.h"\n',
        "block/missing.c": '#include "base/missing.h"\n',
        "block/angle.c": '#include <base/a.h>\n',
    }
    failures = []

    def run(files, what, expect_complaint):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            complaints = check(root)
        if bool(complaints) != expect_complaint:
            failures.append(f"{what}: {complaints or 'no complaint'}")

    run({**header, **good}, "the good tree", False)
    for name, text in bad.items():
        run({**header, **good, name: text}, name, True)
    run({}, "an empty tree", True)
    return failures


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--self-test":
        complaints = self_test()
    else:
        complaints = check(pathlib.Path(sys.argv[1]))
    for complaint in complaints:
        print(complaint)
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
