// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include "base/list.h"

struct item {
    int value;
    struct list link;
};

static void assert_values(struct list *head, const int *values, size_t count)
{
    size_t i = 0;
    list_for_each(link, head)
    {
        assert_true(i < count);
        assert_int_equal(list_entry(link, struct item, link)->value, values[i++]);
        assert_ptr_equal(link->next->prev, link);
    }
    assert_int_equal(i, count);
}

static void members_come_in_the_order_of_their_insertion(void **state)
{
    (void)state;
    struct list head = LIST_INIT(head);
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    assert_true(list_empty(&head));
    assert_null(list_first(&head));
    assert_null(list_pop_front(&head));
    list_push_back(&head, &items[1].link);
    list_push_back(&head, &items[2].link);
    list_push_front(&head, &items[0].link);
    list_insert_before(&items[2].link, &items[3].link);
    assert_values(&head, (int[]){0, 1, 3, 2}, 4);
    list_remove(&items[3].link);
    assert_true(list_empty(&items[3].link));
    list_remove(&items[3].link);
    assert_values(&head, (int[]){0, 1, 2}, 3);
    assert_ptr_equal(list_pop_front(&head), &items[0].link);
    assert_values(&head, (int[]){1, 2}, 2);
}

static void members_may_leave_during_a_safe_walk(void **state)
{
    (void)state;
    struct list head = LIST_INIT(head);
    struct item items[10];
    for (int i = 0; i < 10; i++) {
        items[i].value = i;
        list_push_back(&head, &items[i].link);
    }
    list_for_each_safe(link, following, &head)
    {
        if (list_entry(link, struct item, link)->value % 2 == 0) {
            list_remove(link);
        }
    }
    assert_values(&head, (int[]){1, 3, 5, 7, 9}, 5);
}

static void moving_all_appends_and_empties(void **state)
{
    (void)state;
    struct list a = LIST_INIT(a);
    struct list b = LIST_INIT(b);
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    list_move_all(&a, &b);
    assert_true(list_empty(&a));
    list_push_back(&a, &items[0].link);
    list_push_back(&b, &items[1].link);
    list_push_back(&b, &items[2].link);
    list_move_all(&a, &b);
    assert_values(&a, (int[]){0, 1, 2}, 3);
    assert_true(list_empty(&b));
    list_push_back(&a, &items[3].link);
    list_move_all(&b, &a);
    assert_values(&b, (int[]){0, 1, 2, 3}, 4);
    assert_true(list_empty(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_in_the_order_of_their_insertion),
        cmocka_unit_test(members_may_leave_during_a_safe_walk),
        cmocka_unit_test(moving_all_appends_and_empties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
