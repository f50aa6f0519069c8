# SPDX-License-Identifier: Apache-2.0
add_library(copy_testing STATIC unit/copy_testing.c)
target_link_libraries(copy_testing PUBLIC replication)

smirror_unit_test(copy copy_testing)
smirror_unit_test(copy_control copy_testing)
smirror_unit_test(copy_faults copy_testing)
smirror_unit_test(copy_threads replication)
smirror_unit_test(copy_window replication)
smirror_unit_test(copy_zero_pace replication)
smirror_unit_test(copy_zero_scan replication)
smirror_unit_test(throttle replication)

smirror_simulation(copy copy_testing)

# Prints what the copier costs; as a test it shows that it runs and reads no more than it should.
add_executable(copy_cost sim/copy_cost.c)
target_link_libraries(copy_cost PRIVATE replication)
add_test(NAME copy_cost COMMAND copy_cost 64)
set_tests_properties(copy_cost PROPERTIES TIMEOUT 120)
set_tests_properties(copy_control PROPERTIES RUN_SERIAL TRUE) # measures shares of time

# Mirrors.
add_library(mirror_testing STATIC unit/mirror_testing.c)
target_link_libraries(mirror_testing PUBLIC copy_testing layer_disk)
smirror_unit_test(change_map layer_disk replication)
foreach(name mirror mirror_restore mirror_zeros)
    smirror_unit_test(${name} mirror_testing)
endforeach()
smirror_unit_test(mirror_together mirror_testing)
smirror_simulation(mirror mirror_testing)
