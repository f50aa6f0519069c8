# SPDX-License-Identifier: Apache-2.0
"""Every numbered rule has a test named after it, or a reason here why it has none yet."""

import re
from pathlib import Path

import pytest

RULES = [f"{letter}{number}" for letter, last in (("C", 15), ("W", 9), ("A", 20), ("R", 13), ("P", 19), ("G", 29), ("L", 17))
         for number in range(1, last + 1)]

SKIPPED = {
    "W8": "how one vendor restricts WaitForCopyState; ours is W3: what GetSupportedWaitForCopyStates lists is taken",
}


def test_every_rule_has_a_test_or_a_reason():
    named = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M):
            named.update(re.findall(r"(?<=_)([CWARPGL]\d+)(?=_)", name))
    missing = [rule for rule in RULES if rule not in named and rule not in SKIPPED]
    assert not missing, f"no test and no reason: {missing}"
    both = [rule for rule in RULES if rule in named and rule in SKIPPED]
    assert not both, f"a test and a reason why there is none: {both}"
    unknown = named - set(RULES)
    assert not unknown, f"rules that do not exist: {unknown}"


@pytest.mark.parametrize("rule", SKIPPED)
def test_a_rule_of_a_method_that_is_not_there(rule):
    pytest.skip(f"{rule}: {SKIPPED[rule]}")
