# SPDX-License-Identifier: Apache-2.0
# A host that knows what its LUNs may hold, for the end-to-end tests.
add_executable(stamp tools/stamp.c)
target_link_libraries(stamp PRIVATE PkgConfig::ISCSI)
