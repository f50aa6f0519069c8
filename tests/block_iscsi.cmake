# SPDX-License-Identifier: Apache-2.0
# Targets for tests: Debian's tgtd, and one that misbehaves on demand.
add_library(test_targets STATIC tools/tgtd.c tools/fake_target.c)
target_link_libraries(test_targets PUBLIC Threads::Threads)

smirror_unit_test(iscsi_pages block base)
smirror_unit_test(iscsi_dev block base test_targets)
set_tests_properties(iscsi_dev PROPERTIES TIMEOUT 240)
smirror_fuzzer(iscsi_pages block base)
