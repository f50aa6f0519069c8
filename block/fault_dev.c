// SPDX-License-Identifier: Apache-2.0
/*
 * Every request gets a struct passage, which holds the request that goes below:
 *
 *     submit ─▶ link down or changed? ─▶ completed with its status
 *           ─▶ rule FAIL              ─▶ completed with the rule's status
 *           ─▶ rule HOLD              ─▶ held  ── release ─▶ below, or failed
 *           ─▶ rule DELAY             ─▶ timer ───────────▶ below
 *           ─▶ rule FAIL_AFTER, none  ─▶ below ─▶ completed with the status of below, or the one
 * that was forced
 */
#include "block/fault_dev.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "base/random.h"

struct passage {
    struct list link; /* in held, delayed, below or spare */
    struct fault_dev *fault;
    struct block_req *req;
    struct block_req child;
    struct loop_timer timer;
    int forced; /* status to report whatever below says, or 0 */
};

struct rule {
    struct list link;
    unsigned number;
    struct fault_rule spec;
    uint64_t matched;
    uint64_t hits;
};

struct fault_dev {
    struct blockdev base;
    struct blockdev *child;
    struct random random;
    struct list rules;
    unsigned next_number;
    uint64_t seen[BLOCK_OP_COUNT];

    struct list held;
    struct list delayed;
    struct list below;
    struct list spare;
    unsigned n_held;

    int link_status; /* 0, -ENOTCONN or -ESTALE */

    block_close_fn close_done;
    void *close_arg;
};

static struct fault_dev *of_dev(struct blockdev *dev)
{
    return container_of(dev, struct fault_dev, base);
}

const char *fault_action_name(enum fault_action action)
{
    static const char *const names[] = {
        [FAULT_FAIL] = "fail",
        [FAULT_FAIL_AFTER] = "fail after",
        [FAULT_HOLD] = "hold",
        [FAULT_DELAY] = "delay",
    };
    CHECK(action < ARRAY_LEN(names));
    return names[action];
}

static bool rule_matches(const struct fault_rule *rule, const struct block_req *req)
{
    if (rule->ops && !(rule->ops & FAULT_OP(req->op))) {
        return false;
    }
    if (rule->len == 0) {
        return true;
    }
    return req->op != BLOCK_FLUSH && req->offset < rule->offset + rule->len &&
           rule->offset < req->offset + req->len;
}

/* The rule that decides about req, or NULL; counts. */
static const struct fault_rule *decide(struct fault_dev *fault, const struct block_req *req)
{
    list_for_each(link, &fault->rules)
    {
        struct rule *rule = list_entry(link, struct rule, link);
        const struct fault_rule *spec = &rule->spec;
        if (!rule_matches(spec, req)) {
            continue;
        }
        if (spec->chance_denominator &&
            !random_chance(&fault->random, spec->chance_numerator, spec->chance_denominator)) {
            continue;
        }
        uint64_t index = rule->matched++;
        if (index >= spec->skip && (spec->count == 0 || index - spec->skip < spec->count)) {
            rule->hits++;
            return spec;
        }
    }
    return NULL;
}

static void child_done(struct block_req *child);
static void delay_over(void *arg);

static struct passage *passage_take(struct fault_dev *fault, struct block_req *req)
{
    struct list *link = list_pop_front(&fault->spare);
    struct passage *passage;
    if (link) {
        passage = list_entry(link, struct passage, link);
    } else {
        passage = calloc(1, sizeof(*passage));
        CHECK(passage != NULL);
        list_init(&passage->link);
        passage->fault = fault;
        loop_timer_init(&passage->timer, fault->base.loop, delay_over, passage);
    }
    passage->req = req;
    passage->forced = 0;
    return passage;
}

static void passage_give_back(struct passage *passage)
{
    list_remove(&passage->link);
    list_push_back(&passage->fault->spare, &passage->link);
}

static void passage_go_below(struct passage *passage)
{
    struct fault_dev *fault = passage->fault;
    const struct block_req *req = passage->req;
    list_remove(&passage->link);
    list_push_back(&fault->below, &passage->link);
    blockdev_pass(&passage->child, req, child_done, passage);
    blockdev_submit(fault->child, &passage->child);
}

static void child_done(struct block_req *child)
{
    struct passage *passage = child->arg;
    struct block_req *req = passage->req;
    int status = passage->forced ? passage->forced : child->status;
    req->n_extents = child->n_extents;
    passage_give_back(passage);
    blockdev_complete_now(req, status);
}

static void delay_over(void *arg)
{
    passage_go_below(arg);
}

static void fail_all(struct list *passages, int status)
{
    struct list *link;
    while ((link = list_first(passages)) != NULL) {
        struct passage *passage = list_entry(link, struct passage, link);
        loop_timer_stop(&passage->timer);
        passage_give_back(passage);
        blockdev_complete(passage->req, status);
    }
}

static void fault_submit(struct blockdev *dev, struct block_req *req)
{
    struct fault_dev *fault = of_dev(dev);
    fault->seen[req->op]++;
    if (fault->link_status) {
        blockdev_complete(req, fault->link_status);
        return;
    }
    const struct fault_rule *rule = decide(fault, req);
    if (rule && rule->action == FAULT_FAIL) {
        blockdev_complete(req, rule->status ? rule->status : -EIO);
        return;
    }
    struct passage *passage = passage_take(fault, req);
    if (rule && rule->action == FAULT_HOLD) {
        list_push_back(&fault->held, &passage->link);
        fault->n_held++;
        return;
    }
    if (rule && rule->action == FAULT_DELAY) {
        list_push_back(&fault->delayed, &passage->link);
        loop_timer_start(&passage->timer, rule->delay_ns);
        return;
    }
    if (rule) {
        passage->forced = rule->status ? rule->status : -EIO;
    }
    passage_go_below(passage);
}

static void child_event(void *arg, struct blockdev *child, enum block_event event,
                        unsigned attempts, const char *detail)
{
    struct fault_dev *fault = arg;
    fault->base.info = child->info;
    blockdev_emit(&fault->base, event, attempts, detail);
}

static void child_closed(void *arg)
{
    struct fault_dev *fault = arg;
    block_close_fn done = fault->close_done;
    void *done_arg = fault->close_arg;
    struct list *link;
    while ((link = list_pop_front(&fault->spare)) != NULL) {
        free(list_entry(link, struct passage, link));
    }
    free(fault);
    done(done_arg);
}

static void fault_idle(void *arg)
{
    struct fault_dev *fault = arg;
    blockdev_close(fault->child, child_closed, fault);
}

static void fault_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct fault_dev *fault = of_dev(dev);
    fault->close_done = done;
    fault->close_arg = arg;
    fault_dev_clear(dev);
    fault->n_held = 0;
    fail_all(&fault->held, -ECANCELED);
    fail_all(&fault->delayed, -ECANCELED);
    blockdev_when_idle(dev, fault_idle, fault);
}

static const struct blockdev_ops fault_ops = {
    .kind = "fault",
    .submit = fault_submit,
    .close = fault_close,
};

int fault_dev_new(struct blockdev *below, uint64_t seed, struct blockdev **ret_dev)
{
    struct fault_dev *fault = calloc(1, sizeof(*fault));
    if (!fault) {
        return -ENOMEM;
    }
    fault->base.ops = &fault_ops;
    fault->base.loop = below->loop;
    fault->base.info = below->info;
    fault->child = below;
    random_seed(&fault->random, seed);
    list_init(&fault->rules);
    list_init(&fault->held);
    list_init(&fault->delayed);
    list_init(&fault->below);
    list_init(&fault->spare);
    below->on_event = child_event;
    below->event_arg = fault;
    *ret_dev = &fault->base;
    return 0;
}

static struct fault_dev *checked(struct blockdev *dev)
{
    CHECK(dev->ops == &fault_ops);
    return of_dev(dev);
}

unsigned fault_dev_add(struct blockdev *dev, const struct fault_rule *spec)
{
    struct fault_dev *fault = checked(dev);
    struct rule *rule = calloc(1, sizeof(*rule));
    CHECK(rule != NULL);
    rule->spec = *spec;
    rule->number = fault->next_number++;
    list_push_back(&fault->rules, &rule->link);
    return rule->number;
}

static void rule_free(struct rule *rule)
{
    list_remove(&rule->link);
    free(rule);
}

static struct rule *rule_find(const struct fault_dev *fault, unsigned number)
{
    list_for_each(link, &fault->rules)
    {
        struct rule *rule = list_entry(link, struct rule, link);
        if (rule->number == number) {
            return rule;
        }
    }
    return NULL;
}

void fault_dev_remove(struct blockdev *dev, unsigned number)
{
    struct rule *rule = rule_find(checked(dev), number);
    CHECK(rule != NULL);
    rule_free(rule);
}

void fault_dev_clear(struct blockdev *dev)
{
    list_for_each_safe(link, following, &checked(dev)->rules)
    {
        rule_free(list_entry(link, struct rule, link));
    }
}

uint64_t fault_dev_hits(const struct blockdev *dev, unsigned number)
{
    CHECK(dev->ops == &fault_ops);
    const struct rule *rule = rule_find(container_of(dev, const struct fault_dev, base), number);
    CHECK(rule != NULL);
    return rule->hits;
}

uint64_t fault_dev_seen(const struct blockdev *dev, enum block_op op)
{
    CHECK(dev->ops == &fault_ops && op < BLOCK_OP_COUNT);
    return container_of(dev, const struct fault_dev, base)->seen[op];
}

unsigned fault_dev_held(const struct blockdev *dev)
{
    CHECK(dev->ops == &fault_ops);
    return container_of(dev, const struct fault_dev, base)->n_held;
}

unsigned fault_dev_release(struct blockdev *dev, unsigned max)
{
    struct fault_dev *fault = checked(dev);
    unsigned released = 0;
    struct list *link;
    while (released < max && (link = list_first(&fault->held)) != NULL) {
        fault->n_held--;
        released++;
        passage_go_below(list_entry(link, struct passage, link));
    }
    return released;
}

unsigned fault_dev_fail_held(struct blockdev *dev, unsigned max, int status)
{
    struct fault_dev *fault = checked(dev);
    unsigned failed = 0;
    struct list *link;
    while (failed < max && (link = list_first(&fault->held)) != NULL) {
        struct passage *passage = list_entry(link, struct passage, link);
        fault->n_held--;
        failed++;
        passage_give_back(passage);
        blockdev_complete(passage->req, status);
    }
    return failed;
}

void fault_dev_link(struct blockdev *dev, enum block_event event, unsigned attempts,
                    const char *detail)
{
    struct fault_dev *fault = checked(dev);
    if (fault->link_status != -ESTALE) {
        fault->link_status = event == BLOCK_EVENT_UP        ? 0
                             : event == BLOCK_EVENT_CHANGED ? -ESTALE
                                                            : -ENOTCONN;
    }
    if (fault->link_status) {
        fault->n_held = 0;
        fail_all(&fault->held, fault->link_status);
        fail_all(&fault->delayed, fault->link_status);
        list_for_each(link, &fault->below)
        {
            list_entry(link, struct passage, link)->forced = fault->link_status;
        }
    }
    blockdev_emit(dev, event, attempts, detail);
}
