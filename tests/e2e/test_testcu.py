# SPDX-License-Identifier: Apache-2.0
"""iscsi-test-cu, the whole of it, on a volume that was made over HTTP: two sessions, and what destroys (SANITIZE)."""

import shutil
import subprocess
from pathlib import Path

import pytest

from process import MIB

TESTS = Path(__file__).resolve().parent.parent


@pytest.mark.release  # under sanitizers the same runs against the target alone (ctest testcu)
@pytest.mark.skipif(not shutil.which("iscsi-test-cu"), reason="iscsi-test-cu is not installed")
def test_the_conformance_tests_of_libiscsi_pass_or_are_listed(service):
    made = service.client.method("CreateOrModifyElementFromStoragePool", {"ElementName": "testcu", "Size": 100 * MIB},
                                 expect=200)["TheElement"]
    url = service.client.get(made)["Url"]
    run = subprocess.run([TESTS / "scripts" / "testcu.sh", "--skips", TESTS / "testcu-skips.txt", "--sanitize", "--gate", "205",
                          url, url], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert service.client.get(made)["Problem"] is None
