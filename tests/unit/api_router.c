// SPDX-License-Identifier: Apache-2.0
#include "testing.h"

#include <string.h>

#include "api/router.h"

static int match(struct arena *arena, const char *raw, struct uri *uri, struct route *route,
                 struct error *error)
{
    *error = (struct error){0};
    int err = uri_parse(arena, raw, uri, error);
    return err != 0 ? err : route_match(uri, route, error);
}

static void every_path_leads_to_its_resource(void **state)
{
    static const struct {
        const char *path;
        const char *template;
        const char *allow;
        bool open;
    } cases[] = {
        {"/healthz", "/healthz", "GET, HEAD", true},
        {"/readyz", "/readyz", "GET, HEAD", true},
        {"/openapi.yaml", "/openapi.yaml", "GET, HEAD", false},
        {"/metrics", "/metrics", "GET, HEAD", false},
        {"/services", "/services", "GET, HEAD", false},
        {"/services/ReplicationService", "/services/{service}", "GET, HEAD", false},
        {"/services/ReplicationService/Everything", "/services/{service}/{Method}", "POST", false},
        {"/volumes", "/volumes", "GET, HEAD", false},
        {"/volumes?limit=1", "/volumes", "GET, HEAD", false},
        {"/volumes/abc", "/volumes/{id}", "GET, HEAD", false},
        {"/jobs/abc", "/jobs/{id}", "GET, HEAD, DELETE", false},
        {"/jobs/%61bc", "/jobs/{id}", "GET, HEAD, DELETE", false},
        {"/jobs/abc/GetErrors", "/jobs/{id}/{Method}", "POST", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct arena arena;
        struct uri uri;
        struct route route;
        struct error error;
        char template[100];
        arena_init(&arena);
        assert_int_equal(match(&arena, cases[i].path, &uri, &route, &error), 0);
        route_template_text(route_template(&route), template, sizeof(template));
        assert_string_equal(template, cases[i].template);
        assert_string_equal(route.allow, cases[i].allow);
        assert_int_equal(route_is_open(&route), cases[i].open);
        arena_fini(&arena);
    }
}

static void other_paths_are_not_found(void **state)
{
    static const char *const paths[] = {
        "/",
        "/nothing",
        "/Volumes",
        "/volumes/",
        "//volumes",
        "/volumes//x",
        "/volumes/x/y/z",
        "/services/Nothing",
        "/services/ReplicationService/Nothing_",
        "/services/ReplicationService/everything",
        "/services/StorageConfigurationService/Everything",
        "/services/jobs",
        "/jobs/a/DeleteInstance",
        "/jobs/a/Nothing",
        "/volumes/a/Anything",
        "/systems/a/Anything",
        "/volumes%2Fabc",
        "/healthz/x",
        "/jobs/0123456789012345678901234567890123456789",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct arena arena;
        struct uri uri;
        struct route route;
        struct error error;
        arena_init(&arena);
        if (match(&arena, paths[i], &uri, &route, &error) == 0) {
            fail_msg("found: %s", paths[i]);
        }
        assert_int_equal(error.code, ERR_NOT_FOUND);
        arena_fini(&arena);
    }
}

static void bad_encodings_are_bad_requests(void **state)
{
    static const struct {
        const char *raw;
        enum error_code code;
    } cases[] = {
        {"volumes", ERR_BAD_REQUEST},          {"", ERR_BAD_REQUEST},
        {"/volumes/%", ERR_BAD_REQUEST},       {"/volumes/%4", ERR_BAD_REQUEST},
        {"/volumes/%zz", ERR_BAD_REQUEST},     {"/volumes/%00", ERR_BAD_REQUEST},
        {"/volumes/%0a", ERR_BAD_REQUEST},     {"/volumes/%ff", ERR_BAD_REQUEST},
        {"/volumes?a=%", ERR_BAD_QUERY},       {"/volumes?a=%00", ERR_BAD_QUERY},
        {"/volumes?%c3=1", ERR_BAD_QUERY},     {"/volumes?a=1&a=1", ERR_BAD_QUERY},
        {"/volumes?a=1&%61=2", ERR_BAD_QUERY},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct arena arena;
        struct uri uri;
        struct route route;
        struct error error;
        arena_init(&arena);
        assert_int_not_equal(match(&arena, cases[i].raw, &uri, &route, &error), 0);
        assert_int_equal(error.code, cases[i].code);
        arena_fini(&arena);
    }
}

static void a_query_is_decoded(void **state)
{
    struct arena arena;
    struct uri uri;
    struct error error = {0};
    (void)state;
    arena_init(&arena);
    assert_int_equal(uri_parse(&arena,
                               "/volumes/a+b?SyncedElement=/volumes/3f2a&x=a+b%2B%26&&flag&e=#part",
                               &uri, &error),
                     0);
    assert_string_equal(uri.segments[1], "a+b");
    assert_int_equal(uri.n_params, 4);
    assert_string_equal(uri.params[0].name, "SyncedElement");
    assert_string_equal(uri.params[0].value, "/volumes/3f2a");
    assert_string_equal(uri.params[1].value, "a b+&");
    assert_string_equal(uri.params[2].name, "flag");
    assert_string_equal(uri.params[2].value, "");
    arena_fini(&arena);
}

static void limits_of_the_target_hold(void **state)
{
    struct arena arena;
    struct uri uri;
    struct error error = {0};
    struct strbuf text = STRBUF_INIT;
    (void)state;
    arena_init(&arena);
    strbuf_puts(&text, "/volumes?");
    for (int i = 0; i <= URI_PARAMS_MAX; i++) {
        strbuf_printf(&text, "p%d=1&", i);
    }
    assert_int_not_equal(uri_parse(&arena, strbuf_str(&text), &uri, &error), 0);
    assert_int_equal(error.code, ERR_BAD_QUERY);
    strbuf_reset(&text);
    strbuf_puts(&text, "/volumes/");
    while (text.len <= URI_LEN_MAX) {
        strbuf_putc(&text, 'x');
    }
    assert_int_not_equal(uri_parse(&arena, strbuf_str(&text), &uri, &error), 0);
    assert_int_equal(error.code, ERR_URI_TOO_LONG);
    strbuf_fini(&text);
    arena_fini(&arena);
}

static void what_is_encoded_is_decoded_again(void **state)
{
    char bytes[256];
    struct arena arena;
    struct uri uri;
    struct error error = {0};
    struct strbuf text = STRBUF_INIT;
    size_t n = 0;
    (void)state;
    for (int c = 0x20; c < 0x7f; c++) {
        bytes[n++] = (char)c;
    }
    strcpy(bytes + n, "\xc3\xbc\xf0\x9f\x98\x80");
    arena_init(&arena);
    strbuf_puts(&text, "/volumes?name=");
    uri_encode(&text, bytes);
    assert_int_equal(uri_parse(&arena, strbuf_str(&text), &uri, &error), 0);
    assert_string_equal(uri.params[0].value, bytes);
    strbuf_fini(&text);
    arena_fini(&arena);
}

static void verbs_are_checked(void **state)
{
    static const struct {
        const char *path;
        const char *verb;
        bool taken;
    } cases[] = {
        {"/volumes", "GET", true},
        {"/volumes", "HEAD", true},
        {"/volumes", "POST", false},
        {"/volumes", "DELETE", false},
        {"/volumes", "PUT", false},
        {"/volumes", "get", false},
        {"/volumes/a", "DELETE", false},
        {"/jobs/a", "DELETE", true},
        {"/jobs/a", "POST", false},
        {"/jobs/a", "OPTIONS", false},
        {"/jobs/a", "PATCH", false},
        {"/healthz", "POST", false},
        {"/services/ReplicationService/Everything", "GET", false},
        {"/services/ReplicationService/Everything", "POST", true},
        {"/jobs/a/GetErrors", "POST", true},
        {"/jobs/a/GetErrors", "GET", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct arena arena;
        struct uri uri;
        struct route route;
        struct error error;
        arena_init(&arena);
        assert_int_equal(match(&arena, cases[i].path, &uri, &route, &error), 0);
        int err = route_check_verb(&route, verb_parse(cases[i].verb), &error);
        assert_int_equal(err == 0, cases[i].taken);
        arena_fini(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_path_leads_to_its_resource),
        cmocka_unit_test(other_paths_are_not_found),
        cmocka_unit_test(bad_encodings_are_bad_requests),
        cmocka_unit_test(a_query_is_decoded),
        cmocka_unit_test(limits_of_the_target_hold),
        cmocka_unit_test(what_is_encoded_is_decoded_again),
        cmocka_unit_test(verbs_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
