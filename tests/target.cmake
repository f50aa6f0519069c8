# SPDX-License-Identifier: Apache-2.0
# A program that serves LUNs for foreign initiators: iscsi-test-cu, qemu-img, libiscsi's tools.
add_executable(target_serve tools/target_serve.c)
target_link_libraries(target_serve PRIVATE target block base)

foreach(name target_keys target_chap target_login scsi_ops)
    if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/unit/${name}.c)
        smirror_unit_test(${name} target block base)
    endif()
endforeach()
smirror_unit_test(scsi_copy target layer_disk block base)
foreach(name target_login target_stream target_cdb)
    if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/fuzz/${name}.c)
        smirror_fuzzer(${name} target block base)
    endif()
endforeach()

# The target as a process, libiscsi and the load generator of bench/target in front of it.
smirror_unit_test(target_live PkgConfig::ISCSI)
target_compile_definitions(test_target_live PRIVATE TARGET_SERVE="$<TARGET_FILE:target_serve>"
                           LOAD="$<TARGET_FILE:bench_target_load>")
add_dependencies(test_target_live target_serve bench_target_load)
set_tests_properties(target_live PROPERTIES ENVIRONMENT_MODIFICATION "TSAN_OPTIONS=string_append: atexit_sleep_ms=0")

# iscsi-test-cu as a gate (libiscsi-bin): everything, then what needs another unit, and CHAP with header digests.
find_program(ISCSI_TEST_CU iscsi-test-cu)
if(ISCSI_TEST_CU AND NOT SMIRROR_FUZZ)
    set(testcu ${CMAKE_CURRENT_LIST_DIR}/scripts/testcu.sh --skips ${CMAKE_CURRENT_LIST_DIR}/testcu-skips.txt)
    set(serve --serve $<TARGET_FILE:target_serve>)
    add_test(NAME testcu COMMAND ${testcu} --sanitize --gate 205 ${serve} -- mem:100M)
    add_test(NAME testcu_chap COMMAND ${testcu} --login "host%secret-of-the-host" --digests --gate 205 --sanitize
             ${serve} --chap "host%secret-of-the-host" --chap-md5 -- mem:100M)
    add_test(NAME testcu_plain_physical COMMAND ${testcu} --only GetLBAStatus --gate 3 ${serve} --physical 512 -- mem:100M)
    add_test(NAME testcu_read_only COMMAND ${testcu} --only ReadOnly --gate 1 ${serve} --read-only -- mem:100M)
    add_test(NAME testcu_sanitize_reset COMMAND ${testcu} --only Sanitize.Reset --limit 120 --sanitize --gate 1
             ${serve} --bandwidth 10M --nop-interval 300000 -- mem:100M) # the test sleeps a minute without reading
    set_tests_properties(testcu testcu_chap testcu_plain_physical testcu_read_only testcu_sanitize_reset
                         PROPERTIES TIMEOUT 600)
endif()

find_program(QEMU_IMG qemu-img)
if(QEMU_IMG AND NOT SMIRROR_FUZZ)
    add_test(NAME target_qemu COMMAND ${CMAKE_CURRENT_LIST_DIR}/scripts/target_qemu.sh $<TARGET_FILE:target_serve>)
    set_tests_properties(target_qemu PROPERTIES TIMEOUT 300)
endif()
