# SPDX-License-Identifier: Apache-2.0
# Targets for tests: Debian's tgtd, and one that misbehaves on demand.
add_library(test_targets STATIC tools/tgtd.c tools/fake_target.c)
target_link_libraries(test_targets PUBLIC Threads::Threads)

smirror_unit_test(iscsi_pages block base)
smirror_unit_test(iscsi_wire block base)
smirror_unit_test(iscsi_wire_model block base)
add_library(iscsi_fixture STATIC unit/iscsi_fixture.c)
target_link_libraries(iscsi_fixture PUBLIC block base test_targets PRIVATE PkgConfig::CMOCKA)
foreach(name open io loss fence answers)
    smirror_unit_test(iscsi_${name} iscsi_fixture)
    set_tests_properties(iscsi_${name} PROPERTIES TIMEOUT 240)
endforeach()
smirror_fuzzer(iscsi_pages block base)
smirror_fuzzer(iscsi_wire block base)
