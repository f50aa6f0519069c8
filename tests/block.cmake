# SPDX-License-Identifier: Apache-2.0
foreach(name blockdev delay_dev fault_dev file_dev front_dev handle_dev late_dev mem_dev multi_dev)
    smirror_unit_test(block_${name} block)
endforeach()
