# SPDX-License-Identifier: Apache-2.0
# The tests of api/ stand on a small service of their own (unit/api_fake.c): it can be told to wait and to fail.
add_library(api_fake OBJECT unit/api_fake.c)
function(smirror_api_test name)
    smirror_unit_test(${name} api_fake api)
endfunction()

foreach(name access answer events json_args json_out json_scan read_cache router server tls)
    smirror_api_test(api_${name})
endforeach()

smirror_fuzzer(json_args api_fake api)
smirror_fuzzer(http_uri api_fake api)
