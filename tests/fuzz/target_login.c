// SPDX-License-Identifier: Apache-2.0
/* Login requests: each piece of input is a flags byte, a length, and text. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "target/login.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target_initiator rows[] = {
        {.name = "iqn.a:open"},
        {.chap_user = "u", .chap_secret = "s", .mutual_user = "m", .mutual_secret = "t"},
    };
    struct target_access spec = {.initiators = rows, .n_initiators = 2};
    struct access *access;
    if (access_new(&spec, &access, NULL)) {
        return 0;
    }
    struct login login;
    login_init(&login, access, TARGET_CHAP_ALL);
    login.target_name = "iqn.a:t";
    login.alias = "alias";
    for (enum login_verdict verdict = LOGIN_GOES_ON; verdict == LOGIN_GOES_ON && size >= 3;) {
        uint8_t bhs[PDU_BHS] = {PDU_LOGIN_REQUEST | PDU_IMMEDIATE};
        uint8_t out[PDU_BHS];
        bhs[PDU_F_FLAGS] = data[0];
        size_t len = get_be16(data + 1) % 1024;
        data += 3;
        size -= 3;
        len = len < size ? len : size;
        struct strbuf answer = STRBUF_INIT;
        verdict = login_receive(&login, bhs, data, len, out, &answer);
        strbuf_fini(&answer);
        data += len;
        size -= len;
    }
    login_fini(&login);
    access_unref(access);
    return 0;
}
