# SPDX-License-Identifier: Apache-2.0
# Calls go through a real control with a real store; targets are tgtd and the fake one.
add_library(service_fixture STATIC unit/service_fixture.c)
target_link_libraries(service_fixture PUBLIC service PRIVATE PkgConfig::CMOCKA)

foreach(name addresses peers openers)
    smirror_unit_test(network_${name} service_fixture test_targets)
endforeach()
smirror_unit_test(advertise service)
smirror_unit_test(remote_alias service)
smirror_unit_test(pools service_fixture)
foreach(name discovery found_lun replication_entity)
    smirror_unit_test(${name} service_fixture test_targets)
endforeach()
smirror_unit_test(jobs_faults service_fixture test_targets)
target_link_options(test_jobs_faults PRIVATE -Wl,--wrap=table_get)

smirror_fuzzer(portals service)
