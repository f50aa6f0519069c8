# SPDX-License-Identifier: Apache-2.0
add_library(copy_testing STATIC unit/copy_testing.c)
target_link_libraries(copy_testing PUBLIC replication)

smirror_unit_test(copy copy_testing)
