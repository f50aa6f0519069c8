# SPDX-License-Identifier: Apache-2.0
foreach(name
    arena bitmap crc32c error list log loop loop_sim loop_threads map random slice sockaddr
    state_table strbuf timefmt timer_heap)
    smirror_unit_test(base_${name} base)
endforeach()
