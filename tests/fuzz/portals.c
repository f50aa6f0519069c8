// SPDX-License-Identifier: Apache-2.0
/* AccessInfo and EntityID as clients write them: what is taken has one normal form, which is taken again as itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/portals.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_portal(const struct portal *portal)
{
    struct portal again;
    const char *why;

    CHECK(portal_parse(portal->address, &again, &why) == 0);
    CHECK(strcmp(again.address, portal->address) == 0 && again.numeric == portal->numeric);
    CHECK(strpbrk(portal->address, "@/ ") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct portal portal;
    struct lun_url url;
    const char *why = NULL;

    memcpy(text, data, size);
    text[size] = '\0';
    if (portal_parse(text, &portal, &why) == 0) {
        check_portal(&portal);
    } else {
        CHECK(why != NULL);
    }
    why = NULL;
    if (lun_url_parse(text, &url, &why) == 0) {
        uint64_t lun;

        check_portal(&url.portal);
        CHECK(target_name_valid(url.target));
        CHECK(lun_number(lun_field(url.lun), &lun) == 0 && lun == url.lun);
    } else {
        CHECK(why != NULL);
    }
    free(text);
    return 0;
}
