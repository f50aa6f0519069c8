# SPDX-License-Identifier: Apache-2.0
# Tables, views and capabilities of service/, and their comparison with the contract.
smirror_unit_test(service_tables api service)
foreach(name capabilities capabilities_states)
    smirror_unit_test(${name} api service store_fixture)
    target_sources(test_${name} PRIVATE unit/capabilities_fixture.c)
endforeach()
smirror_unit_test(tables_changes service store_fixture)
smirror_unit_test(replica_states service)
smirror_unit_test(group_states service)
smirror_unit_test(replica_terms service store_fixture)
# Views ask control for three things; the test answers in its place.
foreach(name lists jobs objects)
    smirror_unit_test(view_${name} api service store_fixture PkgConfig::CJSON)
    target_sources(test_view_${name} PRIVATE unit/view_fixture.c)
    target_link_options(test_view_${name} PRIVATE
        -Wl,--wrap=control_live,--wrap=control_now_ms,--wrap=control_options
        -Wl,--wrap=control_hosted,--wrap=hosted_array,--wrap=array_pool_usage,--wrap=array_volume_usage
        -Wl,--wrap=exports_advertised,--wrap=exports_sessions,--wrap=exports_remotes,--wrap=export_may_be_served)
endforeach()

find_program(SMIRROR_PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
set(check_tables ${SMIRROR_PYTHON3} ${CMAKE_CURRENT_LIST_DIR}/scripts/check_tables.py)
set(contract ${CMAKE_SOURCE_DIR}/openapi/openapi.yaml)
add_test(NAME tables_match_openapi
    COMMAND ${check_tables} tables ${contract} $<TARGET_FILE:test_service_tables>)
add_test(NAME views_match_openapi
    COMMAND ${check_tables} views ${contract} $<TARGET_FILE:test_view_objects>)
add_test(NAME capabilities_match_openapi
    COMMAND ${check_tables} answers ${contract} $<TARGET_FILE:test_capabilities>)
add_test(NAME check_tables_self_test COMMAND ${check_tables} self-test ${contract})
