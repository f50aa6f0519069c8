# SPDX-License-Identifier: Apache-2.0
smirror_unit_test(options daemon)

# The real program, as a child.
smirror_unit_test(daemon_process base)
target_compile_definitions(test_daemon_process PRIVATE SMIRRORD="$<TARGET_FILE:smirrord>")
add_dependencies(test_daemon_process smirrord)
