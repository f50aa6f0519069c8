# SPDX-License-Identifier: Apache-2.0
# A program that serves LUNs for foreign initiators: iscsi-test-cu, qemu-img, libiscsi's tools.
add_executable(target_serve tools/target_serve.c)
target_link_libraries(target_serve PRIVATE target block base)
