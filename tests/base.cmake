# SPDX-License-Identifier: Apache-2.0
foreach(name bitmap crc32c error list log map random state_table strbuf timer_heap)
    smirror_unit_test(base_${name} base)
endforeach()
