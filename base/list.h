// SPDX-License-Identifier: Apache-2.0
/*
 * Doubly linked lists whose links live inside the members.
 *
 * Thread:    the owner of the list.
 * Ownership: none: a list never allocates or frees.
 * Errors:    none.
 *
 * The head and the links have the same type. A link that is on no list points to itself after
 * list_init() or list_remove(), so list_empty(&member->link) tells whether it is on one.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct list {
    struct list *next;
    struct list *prev;
};

#define LIST_INIT(name)                                                                            \
    {                                                                                              \
        &(name), &(name)                                                                           \
    }

#define list_entry(link, type, member) container_of(link, type, member)

/* Removing the current member while walking is allowed with list_for_each_safe only. */
#define list_for_each(link, head)                                                                  \
    for (struct list *link = (head)->next; link != (head); link = link->next)
#define list_for_each_safe(link, following, head)                                                  \
    for (struct list *link = (head)->next, *following = link->next; link != (head);                \
         link = following, following = link->next)

static inline void list_init(struct list *head)
{
    head->next = head;
    head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_insert_before(struct list *place, struct list *link)
{
    link->next = place;
    link->prev = place->prev;
    place->prev->next = link;
    place->prev = link;
}

static inline void list_push_back(struct list *head, struct list *link)
{
    list_insert_before(head, link);
}

static inline void list_push_front(struct list *head, struct list *link)
{
    list_insert_before(head->next, link);
}

static inline void list_remove(struct list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* NULL if the list is empty. */
static inline struct list *list_first(const struct list *head)
{
    return list_empty(head) ? NULL : head->next;
}

static inline struct list *list_pop_front(struct list *head)
{
    struct list *link = list_first(head);
    if (link) {
        list_remove(link);
    }
    return link;
}

/* Moves all members of from to the end of head. */
static inline void list_move_all(struct list *head, struct list *from)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = head->prev;
    head->prev->next = from->next;
    from->prev->next = head;
    head->prev = from->prev;
    list_init(from);
}

#endif
