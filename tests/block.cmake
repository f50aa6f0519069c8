# SPDX-License-Identifier: Apache-2.0
foreach(name blockdev delay_dev fault_dev file_dev front_dev handle_dev late_dev mem_dev)
    smirror_unit_test(block_${name} block)
endforeach()

# Several paths to one LUN.
add_library(paths_world STATIC unit/paths_world.c)
target_link_libraries(paths_world PUBLIC block base PkgConfig::CMOCKA)
smirror_unit_test(block_multi_dev paths_world)
smirror_simulation(paths paths_world)
