# SPDX-License-Identifier: Apache-2.0
foreach(name array pools filled)
    smirror_unit_test(hosting_${name} hosting replication block base)
endforeach()
smirror_unit_test(hosting_stock hosting replication block base)
smirror_unit_test(hosting_filters hosting block base)
smirror_unit_test(hosting_groups hosting block base)
smirror_unit_test(mirror_threads hosting replication block base)

add_library(hosted_fixture STATIC unit/hosted_fixture.c)
target_link_libraries(hosted_fixture PUBLIC service_fixture PRIVATE PkgConfig::CMOCKA)
smirror_unit_test(hosted hosted_fixture)
smirror_unit_test(hosted_groups hosted_fixture)
smirror_unit_test(hosted_model hosted_fixture)
smirror_unit_test(late_failures service_fixture api)
target_link_options(test_late_failures PRIVATE -Wl,--wrap=export_put)

# A whole array, or a whole service, on simulated loops (sim/machine.h).
add_library(simulated_machine STATIC sim/machine.c)
target_link_libraries(simulated_machine PUBLIC layer_disk block base)
target_link_options(simulated_machine INTERFACE
    -Wl,--wrap=loop_new,--wrap=pthread_cond_wait,--wrap=layer_create,--wrap=layer_open
    -Wl,--wrap=reaper_unlink,--wrap=rename
    -Wl,--wrap=random_bytes,--wrap=random_unpredictable_u64,--wrap=random_id_hex)

smirror_simulation(group simulated_machine hosting)
smirror_simulation(async simulated_machine service_fixture copy_testing PkgConfig::CMOCKA)
target_sources(sim_async PRIVATE sim/peer.c)
target_link_options(sim_async PRIVATE -Wl,--wrap=lun_opener_new)
