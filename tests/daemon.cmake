# SPDX-License-Identifier: Apache-2.0
smirror_unit_test(options daemon)

# The real program, as a child.
smirror_unit_test(daemon_process daemon)
target_compile_definitions(test_daemon_process PRIVATE SMIRRORD="$<TARGET_FILE:smirrord>")
add_dependencies(test_daemon_process smirrord)
# TSan would let each of its processes wait a second at its end.
set_tests_properties(daemon_process PROPERTIES
    ENVIRONMENT_MODIFICATION "TSAN_OPTIONS=string_append: atexit_sleep_ms=0")
