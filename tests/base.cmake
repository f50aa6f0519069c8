# SPDX-License-Identifier: Apache-2.0
foreach(name
    arena bitmap crc32c error list log loop loop_sim loop_threads map pdu random slice sockaddr
    state_table strbuf timefmt timer_heap)
    smirror_unit_test(base_${name} base)
endforeach()

smirror_fuzzer(base_text base)

find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(include_arrows ${CMAKE_CURRENT_LIST_DIR}/scripts/check_include_arrows.py)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH source_root)
add_test(NAME include_arrows COMMAND Python3::Interpreter ${include_arrows} ${source_root})
add_test(NAME include_arrows_can_fail COMMAND Python3::Interpreter ${include_arrows} --self-test)
