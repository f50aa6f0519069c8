// SPDX-License-Identifier: Apache-2.0
/*
 * The tables of methods, enumerations and classes agree with themselves. With --dump they are
 * printed as JSON, for scripts/check_tables.py to compare with openapi.yaml.
 */
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/json_out.h"
#include "base/check.h"
#include "service/classes.h"
#include "service/enums.h"
#include "service/services.h"
#include "service/view_maps.h"

static const struct service *const objects[] = {&job_methods, &volume_methods,
                                                &access_point_methods, &setting_methods};
static const struct class_info *const classes[] = {
    &class_ReplicationSettingData, &class_StorageSetting, &class_StoragePoolSetting,
    &class_ReplicationPipeSetting,
    &class_ServiceAccessPoint,     &class_SharedSecret,   &class_ReplicationEntity,
};

/* ---- dump ---- */

static void dump_map(struct out *out, const char *name, const struct enum_map *map)
{
    char number[16];

    if (map == NULL) {
        out_null(out, name);
        return;
    }
    out_begin_object(out, name);
    for (size_t i = 0; i < map->n_values; i++) {
        snprintf(number, sizeof(number), "%u", map->values[i].number);
        out_text(out, number, map->values[i].text);
    }
    out_end_object(out);
}

static void dump_params(struct out *out, const char *name, const struct param *params, size_t n)
{
    static const char *const directions[] = {"?", "in", "out", "inout"};
    char type[96];

    out_begin_array(out, name);
    for (size_t i = 0; i < n; i++) {
        const struct param *param = &params[i];
        bool classed = param->class_name != NULL;
        out_begin_object(out, NULL);
        out_text(out, "Name", param->name);
        snprintf(type, sizeof(type), "%s%s%s", param_type_name(param->type), classed ? ":" : "",
                 classed ? param->class_name : "");
        out_text(out, "Type", type);
        out_text(out, "Direction", directions[param->direction]);
        out_bool(out, "Required", param->required);
        out_bool(out, "Array", param->array);
        out_text(out, "Enum", param->map == NULL ? NULL : param->map->name);
        dump_map(out, "Values", param->map);
        out_end_object(out);
    }
    out_end_array(out);
}

static void dump_service(struct out *out, const struct service *service)
{
    out_begin_object(out, service->name);
    out_text(out, "class", service->class_name);
    out_begin_array(out, "Methods");
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct method *method = &service->methods[i];
        out_begin_object(out, NULL);
        out_text(out, "Name", method->name);
        out_bool(out, "Supported", method->handler != NULL);
        out_bool(out, "ReadOnly", method->read_only);
        dump_params(out, "Parameters", method->params, method->n_params);
        dump_map(out, "ReturnValues", method->return_values);
        out_end_object(out);
    }
    out_end_array(out);
    out_end_object(out);
}

static int dump(void)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;
    size_t n;
    const struct service *const *services = service_all(&n);
    const struct enum_map *const *maps;

    json_out_init(&json, &text);
    struct out *out = &json.out;
    out_begin_object(out, NULL);
    out_begin_object(out, "services");
    for (size_t i = 0; i < n; i++) {
        dump_service(out, services[i]);
    }
    out_end_object(out);
    out_begin_object(out, "objects");
    for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
        dump_service(out, objects[i]);
    }
    out_end_object(out);
    out_begin_object(out, "classes");
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        dump_params(out, classes[i]->name, classes[i]->params, classes[i]->n_params);
    }
    out_end_object(out);
    out_begin_object(out, "maps");
    maps = view_maps_all(&n);
    for (size_t i = 0; i < n; i++) {
        dump_map(out, maps[i]->name, maps[i]);
    }
    out_end_object(out);
    out_end_object(out);
    puts(strbuf_str(&text));
    int r = strbuf_error(&text);
    strbuf_fini(&text);
    return r < 0 ? 1 : 0;
}

/* ---- invariants ---- */

typedef void (*service_fn)(const struct service *service);

static void each_service(service_fn fn)
{
    size_t n;
    const struct service *const *services = service_all(&n);

    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        fn(services[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
        fn(objects[i]);
    }
}

static void check_map(const struct enum_map *map)
{
    uint32_t number;

    assert_non_null(map->name);
    assert_true(map->n_values > 0);
    for (size_t i = 0; i < map->n_values; i++) {
        assert_true(map->values[i].text[0] != '\0');
        /* Every value is found by its number and its name: neither is there twice. */
        assert_ptr_equal(enum_text(map, map->values[i].number), map->values[i].text);
        assert_int_equal(enum_number(map, map->values[i].text, &number), 0);
        assert_int_equal(number, map->values[i].number);
    }
}

static void check_param(const struct param *param)
{
    assert_true(param->direction >= PARAM_IN && param->direction <= PARAM_INOUT);
    assert_false(param->required && param->direction == PARAM_OUT);
    assert_true((param->type == PARAM_REF || param->type == PARAM_INSTANCE) ==
                (param->class_name != NULL));
    /* Whole objects of ours have no class of properties; they only come out. */
    assert_true((param->type == PARAM_INSTANCE) == (param->class != NULL) ||
                (param->direction == PARAM_OUT && param->array));
    if (param->class != NULL) {
        assert_string_equal(param->class->name, param->class_name);
    }
    if (param->map != NULL) {
        assert_int_equal(param->type, PARAM_U16);
        check_map(param->map);
    }
}

static void check_params(const struct param *params, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        check_param(&params[i]);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(params[i].name, params[k].name);
        }
    }
}

static void check_method_names(const struct service *service)
{
    for (size_t i = 0; i < service->n_methods; i++) {
        assert_ptr_equal(service_method(service, service->methods[i].name), &service->methods[i]);
    }
    assert_null(service_method(service, "NoSuchMethod"));
}

static void test_names_of_methods_are_unique(void **state)
{
    (void)state;
    each_service(check_method_names);
}

static void check_parameters(const struct service *service)
{
    for (size_t i = 0; i < service->n_methods; i++) {
        check_params(service->methods[i].params, service->methods[i].n_params);
    }
}

static void test_parameters_are_whole(void **state)
{
    (void)state;
    each_service(check_parameters);
}

static void check_returns(const struct service *service)
{
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct method *method = &service->methods[i];
        check_map(method->return_values);
        for (uint32_t value = 0; value <= 5; value++) {
            assert_true(enum_has(method->return_values, value));
        }
    }
}

static void test_return_values_are_those_of_every_method_and_more(void **state)
{
    (void)state;
    each_service(check_returns);
}

static const struct param *job_of(const struct method *method)
{
    for (size_t i = 0; i < method->n_params; i++) {
        if (strcmp(method->params[i].name, "Job") == 0) {
            return &method->params[i];
        }
    }
    return NULL;
}

static void check_jobs(const struct service *service)
{
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct method *method = &service->methods[i];
        const struct param *job = job_of(method);
        bool starts_job =
            strncmp(enum_text(method->return_values, 4096), "Method Parameters Checked - Job",
                    strlen("Method Parameters Checked - Job")) == 0;
        if (job != NULL) {
            assert_true(job->direction != PARAM_IN);
            assert_string_equal(job->class_name, "ConcreteJob");
        }
        if (method->handler != NULL && starts_job) {
            assert_non_null(job);
        }
    }
}

static void test_who_can_start_a_job_has_a_parameter_for_it(void **state)
{
    (void)state;
    each_service(check_jobs);
}

static void test_classes_are_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        check_params(classes[i]->params, classes[i]->n_params);
        for (size_t k = 0; k < classes[i]->n_params; k++) {
            assert_int_equal(classes[i]->params[k].direction, PARAM_IN);
        }
    }
}

static void test_maps_that_only_come_out_are_whole(void **state)
{
    size_t n;
    const struct enum_map *const *maps = view_maps_all(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        check_map(maps[i]);
    }
}

/* smis.md E14, written out: the closed form gives these and no others. */
static void test_replication_types_follow_their_closed_form(void **state)
{
    static const struct {
        uint32_t sync_type, mode;
        bool remote;
        uint32_t number;
    } types[] = {
        {6, 2, false, 2},  {6, 3, false, 3},  {6, 2, true, 4},  {6, 3, true, 5},
        {7, 2, false, 6},  {7, 3, false, 7},  {7, 2, true, 8},  {7, 3, true, 9},
        {8, 2, false, 10}, {8, 3, false, 11}, {8, 2, true, 12}, {8, 3, true, 13},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        assert_int_equal(replication_type(types[i].sync_type, types[i].mode, types[i].remote),
                         types[i].number);
    }
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_methods_are_unique),
        cmocka_unit_test(test_parameters_are_whole),
        cmocka_unit_test(test_return_values_are_those_of_every_method_and_more),
        cmocka_unit_test(test_who_can_start_a_job_has_a_parameter_for_it),
        cmocka_unit_test(test_classes_are_whole),
        cmocka_unit_test(test_maps_that_only_come_out_are_whole),
        cmocka_unit_test(test_replication_types_follow_their_closed_form),
    };

    if (argc > 1 && strcmp(argv[1], "--dump") == 0) {
        return dump();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
