# SPDX-License-Identifier: Apache-2.0
add_library(store_fixture STATIC unit/store_fixture.c)
target_link_libraries(store_fixture PUBLIC store PkgConfig::SQLITE PRIVATE PkgConfig::CMOCKA)

smirror_unit_test(store_db store_fixture Threads::Threads)
smirror_unit_test(store_migrations store_fixture)
smirror_unit_test(store_schema store_fixture)
smirror_unit_test(store_cycle store_fixture)
smirror_unit_test(store_table store_fixture)
smirror_unit_test(store_volume store_fixture)
smirror_unit_test(store_export store_fixture)
smirror_unit_test(store_job store_fixture)
smirror_unit_test(store_speed store_fixture)

add_executable(crash_store crash/store.c)
target_link_libraries(crash_store PRIVATE store_fixture PkgConfig::CMOCKA)
add_test(NAME crash_store COMMAND crash_store)
set_tests_properties(crash_store PROPERTIES TIMEOUT 300)
