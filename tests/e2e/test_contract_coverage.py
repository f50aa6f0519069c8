# SPDX-License-Identifier: Apache-2.0
"""Run last, by itself, with --contract-coverage DIR of the runs before: which operations were exercised."""

import pytest

from contract import Coverage, contract

# Their objects cannot exist yet, so 404 is all they can answer.
NO_SUCCESS = set()


@pytest.fixture
def seen(request):
    directory = request.config.getoption("--contract-coverage")
    if not directory:
        pytest.skip("run by ./test after the other tests, which write what they have exercised")
    return Coverage.read(directory)


def test_every_operation_of_the_contract_was_exercised_with_success(seen):
    names = {operation.name for operation in contract().operations}
    never = sorted(name for name in names if name not in seen)
    assert not never, f"never called: {never}"
    only_failed = sorted(name for name in names - NO_SUCCESS
                         if not any(status < 400 for status in seen[name]) and name != "callUnsupportedMethod"
                         and any(status < 400 for op in contract().operations if op.name == name for status in op.responses))
    assert not only_failed, f"never called with success: {only_failed}"
