// SPDX-License-Identifier: Apache-2.0
/* What a session says of its relationship, and what is made of what others say. */
#include "tests/unit/testing.h"

#include <string.h>

#include "service/remote_alias.h"

static void what_is_said_is_understood(void **state)
{
    (void)state;
    static const uint64_t luns[] = {0, 255, 16383};
    struct sync_row sync = {.head.id = "51d0", .source_id = "from", .target_id = "to-_Z9"};

    for (size_t i = 0; i < sizeof(luns) / sizeof(luns[0]); i++) {
        for (int target = 0; target < 2; target++) {
            struct volume_row volume = {.lun = luns[i]};
            struct remote_alias remote;
            char alias[REMOTE_ALIAS_SIZE];

            strcpy(volume.head.id, target ? sync.target_id : sync.source_id);
            remote_alias_format(alias, &sync, &volume);
            assert_true(remote_alias_parse(alias, &remote));
            assert_string_equal(remote.sync_id, "51d0");
            assert_int_equal(remote.lun, luns[i]);
            assert_int_equal(remote.is_target, target);
            assert_string_equal(remote.other_id, target ? "from" : "to-_Z9");
        }
    }
}

static void the_longest_ids_fit(void **state)
{
    (void)state;
    struct sync_row sync = {.head.id = "aaaaaaaaaaaaaaaaaaaaaaa",
                            .source_id = "bbbbbbbbbbbbbbbbbbbbbbb",
                            .target_id = "ccccccccccccccccccccccc"};
    struct volume_row volume = {.head.id = "ccccccccccccccccccccccc", .lun = 16383};
    struct remote_alias remote;
    char alias[REMOTE_ALIAS_SIZE];

    remote_alias_format(alias, &sync, &volume);
    assert_true(remote_alias_parse(alias, &remote));
    assert_string_equal(remote.sync_id, sync.head.id);
    assert_string_equal(remote.other_id, sync.source_id);
}

/* A text that differs in one byte, or ends before its end, is not taken for another one. */
static void nothing_else_is(void **state)
{
    (void)state;
    static const char good[] = "smirror /synchronizations/a1 LUN 7 is the target of /volumes/b2";
    struct remote_alias remote;
    char alias[sizeof(good) + 1];

    assert_true(remote_alias_parse(good, &remote));
    for (size_t i = 0; i < sizeof(good) - 2; i++) {
        memcpy(alias, good, sizeof(good));
        alias[i + 1] = '\0';
        assert_int_equal(remote_alias_parse(alias, &remote), i + 1 >= sizeof(good) - 2);
        memcpy(alias, good, sizeof(good));
        alias[i] = '\x80';
        assert_false(remote_alias_parse(alias, &remote));
    }
    memcpy(alias, good, sizeof(good));
    strcat(alias, "/");
    assert_false(remote_alias_parse(alias, &remote));
    assert_false(remote_alias_parse("", &remote));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_is_understood),
        cmocka_unit_test(the_longest_ids_fit),
        cmocka_unit_test(nothing_else_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
