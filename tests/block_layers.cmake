# SPDX-License-Identifier: Apache-2.0
# Layers and stacks on a disk that can lose its power, and on real files.
add_library(layer_disk STATIC unit/layer_disk.c)
target_link_libraries(layer_disk PUBLIC block base)

smirror_unit_test(space block base)
smirror_unit_test(layer_stack layer_disk block base)
smirror_unit_test(stack_gate layer_disk block base)
smirror_unit_test(changes layer_disk replication block base)

add_executable(test_layer_power crash/layer_power.c)
target_link_libraries(test_layer_power PRIVATE layer_disk block base PkgConfig::CMOCKA)
add_test(NAME layer_power COMMAND test_layer_power)
set_tests_properties(layer_power PROPERTIES TIMEOUT 300)

# Figures for docs/design/layers.md: test_layer_bench DIRECTORY.
add_executable(test_layer_bench unit/layer_bench.c)
target_link_libraries(test_layer_bench PRIVATE block base)

smirror_unit_test(layer_scale block base)
smirror_unit_test(layer_files block base)
smirror_unit_test(layer_chain block base)
smirror_unit_test(write_thread block base)
smirror_fuzzer(layer_open layer_disk block base)

smirror_simulation(keep layer_disk block base PkgConfig::CMOCKA)
