// SPDX-License-Identifier: Apache-2.0
/*
 * The device: a request is read (stack_read.c), a change, a flush or a map query.
 *
 * A change:  lock its granules ─▶ map pages of the top ─▶ fill partial granules from below
 *            ─▶ reserve space ─▶ write or punch, then map ─▶ unlock ─▶ with FUA: flush
 * Aligned changes skip the filling. A granule that is not data in the top layer is written whole,
 * always, so that old bytes of the file are never seen. Whole granules of zeros are not written
 * where that would take space.
 *
 * Changes of one granule follow one another in the order of their coming. Reads lock nothing: they
 * see the state before or after. The barrier lets changes finish that have come before it, queues
 * the others, and so has the top layer for itself.
 */
#include "block/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/slice.h"
#include "block/stack_object.h"

enum {
    ZERO_GRANULES = 1 << 18, /* 1 GiB of zeroing at a time */
    MAP_GRANULES = LAYER_PAGE_GRANULES,
    FEW_BYTES = 16 << 10,  /* of zeros among data: not worth a write of their own */
    HOLE_BYTES = 64 << 10, /* of zeros: worth a hole where there was data */
};

struct stack *stack_of(const struct blockdev *dev)
{
    return container_of((struct blockdev *)(uintptr_t)dev, struct stack, base);
}

struct layer *stack_top(const struct stack *stack)
{
    return stack->layers[stack->n_layers - 1];
}

unsigned stack_code(const struct stack *stack, const struct layer *layer)
{
    for (unsigned i = stack->n_layers; i-- > 0;) {
        if (stack->layers[i] == layer) {
            return STACK_LAYER + stack->numbers[i];
        }
    }
    CHECK(!"a layer of this stack");
    return 0;
}

/* ---- locks and the barrier ---- */

struct stack_op *stack_op_get(struct stack *stack)
{
    struct list *link = list_pop_front(&stack->spare_ops);
    struct stack_op *op;
    if (link) {
        op = list_entry(link, struct stack_op, link);
    } else {
        op = calloc(1, sizeof(*op));
        CHECK(op != NULL);
        list_init(&op->link);
        op->stack = stack;
        op->fill = aligned_alloc(LAYER_GRANULE, 2 * LAYER_GRANULE);
        CHECK(op->fill != NULL);
    }
    op->req = NULL;
    op->layer = NULL;
    op->filled = false;
    op->status = 0;
    op->reserved_bytes = 0;
    return op;
}

void stack_op_put(struct stack_op *op)
{
    list_push_front(&op->stack->spare_ops, &op->link);
}

static bool overlaps(const struct list *ops, const struct list *until, uint64_t first,
                     uint64_t last)
{
    for (const struct list *link = ops->next; link != ops && link != until; link = link->next) {
        const struct stack_op *other = list_entry(link, const struct stack_op, link);
        if (other->first <= last && first <= other->last) {
            return true;
        }
    }
    return false;
}

static void hold_reached(void *arg)
{
    struct stack *stack = arg;
    stack->hold.posted = false;
    if (stack->base.closing && !stack->snapshot) {
        stack_try_close(stack);
        return;
    }
    stack->hold.fn(stack->hold.arg);
}

static void hold_check(struct stack *stack)
{
    if (stack->hold.held && !stack->hold.told && list_empty(&stack->active) &&
        list_empty(&stack->waiting)) {
        stack->hold.told = true;
        stack->hold.posted = true;
        stack->hold.task = (struct loop_task){.fn = hold_reached, .arg = stack};
        loop_defer(stack->base.loop, &stack->hold.task);
    }
}

void stack_op_lock(struct stack_op *op, uint64_t first, uint64_t last)
{
    struct stack *stack = op->stack;
    op->first = first;
    op->last = last;
    if (stack->hold.held || !stack_gate_pass(stack)) {
        list_push_back(&stack->held_ops, &op->link);
    } else if (overlaps(&stack->active, NULL, first, last) ||
               overlaps(&stack->waiting, NULL, first, last)) {
        stack->stats.lock_waits++;
        list_push_back(&stack->waiting, &op->link);
    } else {
        list_push_back(&stack->active, &op->link);
        op->go(op);
    }
}

static void op_wake(void *arg)
{
    struct stack_op *op = arg;
    op->go(op);
}

void stack_op_unlock(struct stack_op *op)
{
    struct stack *stack = op->stack;
    list_remove(&op->link);
    list_for_each_safe(link, following, &stack->waiting)
    {
        struct stack_op *next = list_entry(link, struct stack_op, link);
        if (next->first <= op->last && op->first <= next->last &&
            !overlaps(&stack->active, NULL, next->first, next->last) &&
            !overlaps(&stack->waiting, link, next->first, next->last)) {
            list_remove(link);
            list_push_back(&stack->active, link);
            next->task = (struct loop_task){.fn = op_wake, .arg = next};
            loop_defer(stack->base.loop, &next->task);
        }
    }
    stack_gate_passed(stack);
    hold_check(stack);
}

int stack_hold(struct blockdev *dev, stack_held_fn fn, void *arg)
{
    struct stack *stack = stack_of(dev);
    CHECK(loop_is_current(dev->loop));
    if (stack->hold.held || stack->gate.at || dev->closing) {
        return -EBUSY;
    }
    stack->hold =
        (struct stack_hold){.held = true, .since_ns = loop_now_ns(dev->loop), .fn = fn, .arg = arg};
    hold_check(stack);
    return 0;
}

static unsigned number_free(const struct stack *stack)
{
    unsigned number = 0;
    while (stack->by_number[number]) {
        number++;
    }
    return number;
}

static void layers_add(struct stack *stack, struct layer *layer)
{
    unsigned number = number_free(stack);
    layer_ref(layer);
    layer_sharing(layer)->stacks++;
    stack->layers[stack->n_layers] = layer;
    stack->numbers[stack->n_layers] = (uint8_t)number;
    stack->by_number[number] = layer;
    stack->n_layers++;
    stack->n_read++;
}

int stack_push(struct blockdev *dev, struct layer *layer)
{
    struct stack *stack = stack_of(dev);
    if (stack->gate.at) {
        CHECK(stack_gate_state(stack->gate.at) == STACK_GATE_CUT);
    } else {
        CHECK(stack->hold.held && stack->hold.told && !stack->hold.posted);
    }
    if (layer_size_bytes(layer) != dev->info.size_bytes) {
        return -EINVAL;
    }
    if (stack->n_layers == STACK_MAX_LAYERS) {
        return -ENOSPC;
    }
    layers_add(stack, layer);
    return 0;
}

void stack_held_go_on(struct stack *stack)
{
    struct list held = LIST_INIT(held);
    list_move_all(&held, &stack->held_ops);
    struct list *link;
    while ((link = list_pop_front(&held)) != NULL) {
        struct stack_op *op = list_entry(link, struct stack_op, link);
        stack_op_lock(op, op->first, op->last);
    }
}

uint64_t stack_release(struct blockdev *dev)
{
    struct stack *stack = stack_of(dev);
    CHECK(stack->hold.held);
    stack->hold.held = false;
    uint64_t pause_ns = loop_now_ns(dev->loop) - stack->hold.since_ns;
    stack_held_go_on(stack);
    return pause_ns;
}

/* ---- space ---- */

int stack_reserve(struct stack_op *op, struct layer *layer, uint64_t first, uint64_t last)
{
    struct stack *stack = op->stack;
    if (!stack->capacity.reserve && !stack->capacity.release) {
        return 0;
    }
    uint64_t bytes = layer_missing_bytes(layer, first, last);
    if (bytes > 0 && stack->capacity.reserve) {
        int err = stack->capacity.reserve(stack->capacity.arg, bytes);
        if (err) {
            return err;
        }
    }
    op->reserved_bytes = bytes;
    return 0;
}

void stack_settle_space(struct stack_op *op, int64_t allocated_bytes)
{
    struct stack *stack = op->stack;
    int64_t too_much = (int64_t)op->reserved_bytes - allocated_bytes;
    op->reserved_bytes = 0;
    if (too_much > 0 && stack->capacity.release) {
        stack->capacity.release(stack->capacity.arg, (uint64_t)too_much);
    }
}

/* ---- changes of requests ---- */

static void change_step(struct stack_op *op);

static void change_flushed(void *arg, int status)
{
    struct stack_op *op = arg;
    struct block_req *req = op->req;
    struct layer *layer = op->layer;
    stack_op_put(op);
    layer_unref(layer, NULL, NULL);
    blockdev_complete(req, status);
}

static void change_end(struct stack_op *op, int status)
{
    struct block_req *req = op->req;
    struct layer *layer = op->layer;
    stack_op_unlock(op);
    if (!status && req->flags & BLOCK_FUA) {
        op->wait = (struct layer_wait){.fn = change_flushed, .arg = op};
        layer_ref(layer);
        layer_flush_wait(layer, &op->wait);
        return;
    }
    stack_op_put(op);
    blockdev_complete(req, status);
}

static void change_known(void *arg, int status)
{
    struct stack_op *op = arg;
    if (status) {
        change_end(op, status);
    } else {
        change_step(op);
    }
}

static void piece_next(void *arg)
{
    change_step(arg);
}

static void piece_end(struct stack_op *op, int status)
{
    struct stack *stack = op->stack;
    stack_settle_space(op, status ? 0 : op->change.allocated_bytes);
    if (status) {
        change_end(op, status);
        return;
    }
    unsigned code = op->change.state == GRANULE_DATA   ? stack_code(stack, op->layer)
                    : op->change.state == GRANULE_ZERO ? STACK_ZERO
                                                       : STACK_ABSENT;
    stack_resolved_set(stack, op->change.first, op->change.last, code);
    op->at = op->piece_end;
    op->filled = false;
    if (op->at == op->req->offset + op->req->len) {
        change_end(op, 0);
        return;
    }
    /* Through the loop: a long range of pieces that end at once must not nest. */
    op->task = (struct loop_task){.fn = piece_next, .arg = op};
    loop_defer(stack->base.loop, &op->task);
}

static void piece_done(struct layer_op *change)
{
    piece_end(change->arg, change->status);
}

static void piece_submit(struct stack_op *op)
{
    op->change.done = piece_done;
    op->change.arg = op;
    int status = layer_change(op->layer, &op->change);
    if (status != -EINPROGRESS) {
        piece_end(op, status);
    }
}

static void fill_done(struct stack_read *read)
{
    struct stack_op *op = read->arg;
    if (read->status) {
        change_end(op, read->status);
        return;
    }
    op->filled = true;
    change_step(op);
}

static bool is_data(struct layer *layer, uint64_t granule)
{
    uint64_t count;
    return layer_map_run(layer_map_of(layer), granule, granule, &count) == GRANULE_DATA;
}

/* Reads the granules of which only a part is written and which the top does not have. True: there
 * is nothing to read, or it has been. */
static bool fill(struct stack_op *op, uint64_t begin, uint64_t end, bool *ret_head, bool *ret_tail)
{
    struct stack *stack = op->stack;
    uint64_t first = begin / LAYER_GRANULE;
    uint64_t last = (end - 1) / LAYER_GRANULE;
    bool head = begin % LAYER_GRANULE != 0 && !is_data(op->layer, first);
    bool tail = end % LAYER_GRANULE != 0 && !is_data(op->layer, last);
    if (first == last) {
        head |= tail;
        tail = false;
    }
    *ret_head = head;
    *ret_tail = tail;
    if ((!head && !tail) || op->filled) {
        return true;
    }
    /* Both ends at once only if they are neighbours; else the head first, and the tail with a read
     * of its own into the second half of the buffer. */
    uint64_t size = stack->base.info.size_bytes;
    uint64_t from = (head ? first : last) * LAYER_GRANULE;
    uint64_t len = size - from < LAYER_GRANULE ? size - from : LAYER_GRANULE;
    memset(op->fill + (head ? 0 : LAYER_GRANULE), 0, LAYER_GRANULE);
    op->fill_slices[0] =
        (struct slice){.data = op->fill + (head ? 0 : LAYER_GRANULE), .len = (size_t)len};
    op->read = (struct stack_read){.stack = stack,
                                   .offset = from,
                                   .len = len,
                                   .slices = op->fill_slices,
                                   .n_slices = 1,
                                   .done = fill_done,
                                   .arg = op};
    stack->stats.fills++;
    stack_read_start(&op->read);
    return false;
}

static void iov_add(struct stack_op *op, void *data, size_t len)
{
    if (len == 0) {
        return;
    }
    if (op->n_iov == op->iov_room) {
        op->iov_room = op->iov_room ? op->iov_room * 2 : STACK_IOV;
        op->iov = realloc(op->iov, op->iov_room * sizeof(*op->iov));
        CHECK(op->iov != NULL);
    }
    op->iov[op->n_iov++] = (struct iovec){.iov_base = data, .iov_len = len};
}

void stack_op_zeros(struct stack_op *op, uint64_t len)
{
    static uint8_t zeros[LAYER_GRANULE];
    CHECK(len <= LAYER_GRANULE);
    iov_add(op, zeros, (size_t)len);
}

void stack_op_payload(struct stack_op *op, uint64_t begin, uint64_t end)
{
    const struct block_req *req = op->req;
    if (req->op != BLOCK_WRITE) {
        stack_op_zeros(op, end - begin);
        return;
    }
    uint64_t at = req->offset;
    for (unsigned i = 0; i < req->n_slices && at < end; i++) {
        uint64_t slice_end = at + req->slices[i].len;
        uint64_t from = at > begin ? at : begin;
        uint64_t to = slice_end < end ? slice_end : end;
        if (from < to) {
            iov_add(op, req->slices[i].data + (from - at), (size_t)(to - from));
        }
        at = slice_end;
    }
}

/* Writes [op->at, end), completing partial granules. A request whose two ends both need filling
 * is written in two pieces. */
static void write_piece(struct stack_op *op, uint64_t end)
{
    uint64_t begin = op->at;
    bool head;
    bool tail;
    if (!fill(op, begin, end, &head, &tail)) {
        return;
    }
    if (head && tail) {
        end = end / LAYER_GRANULE * LAYER_GRANULE;
        tail = false;
    }
    uint64_t first = begin / LAYER_GRANULE;
    uint64_t last = (end - 1) / LAYER_GRANULE;
    int err = stack_reserve(op, op->layer, first, last);
    if (err) {
        change_end(op, err);
        return;
    }
    uint64_t from = head ? first * LAYER_GRANULE : begin;
    uint64_t to = end;
    op->n_iov = 0;
    if (head) {
        iov_add(op, op->fill, (size_t)(begin - from));
    }
    stack_op_payload(op, begin, end);
    if (tail || (head && first == last)) {
        to = (last + 1) * LAYER_GRANULE;
        uint8_t *fill_bytes = op->fill + (head ? 0 : LAYER_GRANULE);
        iov_add(op, fill_bytes + end % LAYER_GRANULE, (size_t)(to - end));
    }
    op->piece_end = end;
    op->change.first = first;
    op->change.last = last;
    op->change.state = GRANULE_DATA;
    op->change.offset = from;
    op->change.io.len = to - from;
    op->change.io.iov = op->iov;
    op->change.io.n_iov = (int)op->n_iov;
    piece_submit(op);
}

static void zero_piece(struct stack_op *op, uint64_t end)
{
    struct stack *stack = op->stack;
    bool alone = stack->n_layers == 1 && !stack->bottom;
    op->piece_end = end;
    op->change.first = op->at / LAYER_GRANULE;
    op->change.last = (end - 1) / LAYER_GRANULE;
    op->change.state = alone ? GRANULE_ABSENT : GRANULE_ZERO;
    piece_submit(op);
}

/* Up to where what is written from there on is granules of zeros, or is not. */
static uint64_t payload_run(const struct stack_op *op, uint64_t begin, bool *ret_zero)
{
    const struct block_req *req = op->req;
    const struct slice *slice = req->slices;
    uint64_t size = op->stack->base.info.size_bytes;
    uint64_t end = req->offset + req->len;
    uint64_t at = begin;
    size_t skip = (size_t)(at - req->offset);
    for (; skip >= slice->len; slice++) {
        skip -= slice->len;
    }
    bool zero = false;
    while (at < end) {
        uint64_t to = (at / LAYER_GRANULE + 1) * LAYER_GRANULE;
        bool whole = at % LAYER_GRANULE == 0 && (to <= end || end == size);
        to = to < end ? to : end;
        bool same = whole;
        for (size_t left = (size_t)(to - at); left > 0; skip = 0, slice++) {
            size_t part = slice->len - skip;
            if (part > left) {
                same = same && mem_is_zero(slice->data + skip, left);
                skip += left;
                break;
            }
            same = same && mem_is_zero(slice->data + skip, part);
            left -= part;
        }
        if (at != begin && same != zero) {
            break;
        }
        zero = same;
        at = to;
    }
    *ret_zero = zero;
    return at;
}

/* Zeros where the top has no data are an entry, unless they are few among data: then one write is
 * cheaper than two. Where it has data they are written over it, unless they are so many that their
 * space is worth a hole. */
static bool zeros_worth_no_data(const struct stack_op *op, uint64_t begin, uint64_t end)
{
    uint64_t first = begin / LAYER_GRANULE;
    uint64_t last = (end - 1) / LAYER_GRANULE;
    bool alone = begin == op->req->offset && end == begin + op->req->len;
    if (!alone && end - begin < FEW_BYTES) {
        return false;
    }
    return end - begin >= HOLE_BYTES ||
           layer_missing_bytes(op->layer, first, last) == (last - first + 1) * LAYER_GRANULE;
}

static void write_step(struct stack_op *op)
{
    uint64_t end = op->req->offset + op->req->len;
    uint64_t at = op->at;
    while (at < end) {
        bool zero;
        uint64_t run = payload_run(op, at, &zero);
        if (zero && zeros_worth_no_data(op, at, run)) {
            if (at == op->at) {
                zero_piece(op, run);
                return;
            }
            break;
        }
        at = run;
    }
    write_piece(op, at);
}

static void change_step(struct stack_op *op)
{
    struct stack *stack = op->stack;
    const struct block_req *req = op->req;
    uint64_t end = req->offset + req->len;
    bool whole = req->op == BLOCK_WRITE;
    if (!whole) {
        /* The part of a granule before the first boundary, whole granules, the rest. */
        uint64_t up = (op->at + LAYER_GRANULE - 1) / LAYER_GRANULE * LAYER_GRANULE;
        uint64_t down =
            end == stack->base.info.size_bytes ? end : end / LAYER_GRANULE * LAYER_GRANULE;
        whole = up != op->at || down <= op->at;
        if (whole) {
            end = up != op->at && up < end ? up : end;
        } else {
            uint64_t most = op->at + (uint64_t)ZERO_GRANULES * LAYER_GRANULE;
            end = down < most ? down : most;
        }
    }
    uint64_t first = op->at / LAYER_GRANULE;
    uint64_t last = (end - 1) / LAYER_GRANULE;
    op->wait = (struct layer_wait){.fn = change_known, .arg = op};
    if (!layer_want(op->layer, first, last, &op->wait)) {
        return;
    }
    if (req->op == BLOCK_WRITE) {
        write_step(op);
    } else if (whole) {
        write_piece(op, end);
    } else {
        zero_piece(op, end);
    }
}

static void change_go(struct stack_op *op)
{
    op->layer = stack_top(op->stack);
    change_step(op);
}

static void change_start(struct stack *stack, struct block_req *req)
{
    struct stack_op *op = stack_op_get(stack);
    op->req = req;
    op->at = req->offset;
    op->go = change_go;
    stack_op_lock(op, req->offset / LAYER_GRANULE, (req->offset + req->len - 1) / LAYER_GRANULE);
}

/* ---- reads, flushes, maps ---- */

static void read_done(struct stack_read *read)
{
    struct stack_op *op = read->arg;
    struct block_req *req = op->req;
    stack_op_put(op);
    blockdev_complete(req, read->status);
}

static void read_start(struct stack *stack, struct block_req *req)
{
    struct stack_op *op = stack_op_get(stack);
    op->req = req;
    op->read = (struct stack_read){.stack = stack,
                                   .offset = req->offset,
                                   .len = req->len,
                                   .slices = req->slices,
                                   .n_slices = req->n_slices,
                                   .done = read_done,
                                   .arg = op};
    stack_read_start(&op->read);
}

static void flush_end(struct stack_read *read, int status)
{
    read->status = read->status ? read->status : status;
    if (--read->parts == 0) {
        read_done(read);
    }
}

static void flush_part_done(void *arg, int status)
{
    struct stack_part *part = arg;
    struct stack_read *read = part->read;
    struct layer *layer = part->layer;
    stack_part_put(read->stack, part);
    flush_end(read, status);
    layer_unref(layer, NULL, NULL);
}

static void flush_start(struct stack *stack, struct block_req *req)
{
    struct stack_op *op = stack_op_get(stack);
    op->req = req;
    op->read = (struct stack_read){.stack = stack, .parts = 1, .arg = op};
    for (unsigned i = 0; i < stack->n_layers; i++) {
        if (layer_is_dirty(stack->layers[i])) {
            struct stack_part *part = stack_part_get(stack);
            part->read = &op->read;
            part->layer = stack->layers[i];
            part->wait = (struct layer_wait){.fn = flush_part_done, .arg = part};
            op->read.parts++;
            layer_ref(part->layer);
            layer_flush_wait(part->layer, &part->wait);
        }
    }
    flush_end(&op->read, 0);
}

static void map_end(struct stack_op *op, int status)
{
    struct block_req *req = op->req;
    stack_op_put(op);
    blockdev_complete(req, status);
}

static void map_step(struct stack_op *op);

static void map_known(void *arg, int status)
{
    struct stack_op *op = arg;
    if (status) {
        map_end(op, status);
        return;
    }
    map_step(op);
}

/* What the bottom says of a run that no layer has: no more of it than the run. A bottom that cannot
 * tell now is no error. */
static void map_bottom_done(struct block_req *below)
{
    struct stack_part *part = below->arg;
    struct stack_op *op = part->read->arg;
    struct stack *stack = op->stack;
    struct block_req *req = op->req;
    uint64_t end = below->offset + below->len;
    unsigned n = 0;
    while (!below->status && n < below->n_extents && req->extents[n].offset < end) {
        struct block_extent *extent = &req->extents[n++];
        extent->len = extent->len < end - extent->offset ? extent->len : end - extent->offset;
    }
    if (n == 0) {
        req->extents[n++] = (struct block_extent){
            .offset = below->offset, .len = below->len, .kind = BLOCK_EXTENT_UNKNOWN};
    }
    req->n_extents = n;
    stack_part_put(stack, part);
    map_end(op, 0);
    stack_bottom_read_done(stack);
}

static void map_bottom(struct stack_op *op, uint64_t begin, uint64_t end)
{
    struct stack *stack = op->stack;
    struct stack_part *part = stack_part_get(stack);
    op->read = (struct stack_read){.stack = stack, .arg = op};
    part->read = &op->read;
    part->req = (struct block_req){.op = BLOCK_MAP,
                                   .offset = begin,
                                   .len = end - begin,
                                   .extents = op->req->extents,
                                   .max_extents = op->req->max_extents,
                                   .done = map_bottom_done,
                                   .arg = part};
    stack->bottom_reads++;
    blockdev_submit(stack->bottom, &part->req);
}

/* The newest layer, of those that are new, that has the granules from first on; the old layers are not
 * asked. What was not there before is new, too: the volume has grown. */
static enum block_extent_kind map_change(const struct stack *stack, uint64_t first, uint64_t last,
                                         uint64_t *ret_count)
{
    uint64_t n_old = layer_granules(stack->layers[stack->new_from - 1]);
    for (unsigned i = stack->n_layers; i-- > stack->new_from;) {
        struct layer *layer = stack->layers[i];
        uint64_t n = layer_granules(layer);
        uint64_t count;
        if (first >= n) {
            continue;
        }
        enum granule_state state =
            layer_map_run(layer_map_of(layer), first, last < n ? last : n - 1, &count);
        if (state != GRANULE_ABSENT) {
            *ret_count = count;
            return stack->n_read < stack->n_layers ? BLOCK_EXTENT_UNKNOWN
                   : state == GRANULE_ZERO         ? BLOCK_EXTENT_ZERO
                                                   : BLOCK_EXTENT_DATA;
        }
        if (first + count < n || last < n) {
            last = first + count - 1;
        }
    }
    if (first < n_old && last >= n_old) {
        last = n_old - 1;
    }
    *ret_count = last - first + 1;
    return first < n_old ? BLOCK_EXTENT_KEPT : BLOCK_EXTENT_ZERO;
}

static bool changes_known(const struct stack *stack, uint64_t first, uint64_t last,
                          struct layer_wait *wait)
{
    for (unsigned i = stack->n_layers; i-- > stack->new_from;) {
        struct layer *layer = stack->layers[i];
        uint64_t n = layer_granules(layer);
        if (first < n && !layer_want(layer, first, last < n ? last : n - 1, wait)) {
            return false;
        }
    }
    return true;
}

static void map_changes_step(struct stack_op *op);

static void map_changes_known(void *arg, int status)
{
    struct stack_op *op = arg;
    if (status) {
        map_end(op, status);
        return;
    }
    map_changes_step(op);
}

static void map_changes_step(struct stack_op *op)
{
    struct stack *stack = op->stack;
    struct block_req *req = op->req;
    uint64_t first = req->offset / LAYER_GRANULE;
    uint64_t last = (req->offset + req->len - 1) / LAYER_GRANULE;
    uint64_t count;
    unsigned n = 0;
    last = last < first + MAP_GRANULES ? last : first + MAP_GRANULES - 1;
    op->wait = (struct layer_wait){.fn = map_changes_known, .arg = op};
    if (!changes_known(stack, first, last, &op->wait)) {
        return;
    }
    for (uint64_t g = first; g <= last; g += count) {
        enum block_extent_kind kind = map_change(stack, g, last, &count);
        uint64_t begin = g * LAYER_GRANULE > req->offset ? g * LAYER_GRANULE : req->offset;
        uint64_t end = (g + count) * LAYER_GRANULE;
        end = end < stack->base.info.size_bytes ? end : stack->base.info.size_bytes;
        if (n > 0 && req->extents[n - 1].kind == kind) {
            req->extents[n - 1].len += end - begin;
        } else if (n < req->max_extents) {
            req->extents[n++] =
                (struct block_extent){.offset = begin, .len = end - begin, .kind = kind};
        } else {
            break;
        }
    }
    req->n_extents = n;
    map_end(op, 0);
}

static void map_step(struct stack_op *op)
{
    struct stack *stack = op->stack;
    struct block_req *req = op->req;
    uint64_t first = req->offset / LAYER_GRANULE;
    uint64_t last = (req->offset + req->len - 1) / LAYER_GRANULE;
    last = last < first + MAP_GRANULES ? last : first + MAP_GRANULES - 1;
    op->wait = (struct layer_wait){.fn = map_known, .arg = op};
    if (!stack_known(stack, first, last, &op->wait)) {
        return;
    }
    unsigned n = 0;
    uint64_t count;
    for (uint64_t g = first; g <= last; g += count) {
        unsigned code = stack_resolve(stack, g, last, &count);
        uint64_t begin = g * LAYER_GRANULE > req->offset ? g * LAYER_GRANULE : req->offset;
        uint64_t end = (g + count) * LAYER_GRANULE;
        end = end < stack->base.info.size_bytes ? end : stack->base.info.size_bytes;
        enum block_extent_kind kind = code >= STACK_LAYER ? BLOCK_EXTENT_DATA : BLOCK_EXTENT_ZERO;
        uint64_t content = code >= STACK_LAYER && req->flags & BLOCK_CONTENTS
                               ? layer_number(stack->by_number[code - STACK_LAYER])
                               : 0;
        if (code == STACK_ABSENT && stack->bottom && begin < stack->bottom->info.size_bytes) {
            uint64_t below = stack->bottom->info.size_bytes;
            end = end < below ? end : below;
            if (n == 0 && stack->bottom->info.can_map) {
                map_bottom(op, begin, end);
                return;
            }
            if (n > 0) {
                break; /* another query will begin here */
            }
            kind = BLOCK_EXTENT_UNKNOWN;
        }
        if (n > 0 && req->extents[n - 1].kind == kind && req->extents[n - 1].content == content) {
            req->extents[n - 1].len += end - begin;
        } else if (n < req->max_extents) {
            req->extents[n++] = (struct block_extent){
                .offset = begin, .len = end - begin, .kind = kind, .content = content};
        } else {
            break;
        }
    }
    req->n_extents = n;
    map_end(op, 0);
}

static void map_start(struct stack *stack, struct block_req *req)
{
    struct stack_op *op = stack_op_get(stack);
    op->req = req;
    if (stack->new_from > 0) {
        map_changes_step(op);
    } else {
        map_step(op);
    }
}

static void stack_submit(struct blockdev *dev, struct block_req *req)
{
    struct stack *stack = stack_of(dev);
    switch (req->op) {
    case BLOCK_READ:
        read_start(stack, req);
        break;
    case BLOCK_WRITE:
    case BLOCK_ZERO:
    case BLOCK_DISCARD:
        change_start(stack, req);
        break;
    case BLOCK_FLUSH:
        flush_start(stack, req);
        break;
    case BLOCK_MAP:
        map_start(stack, req);
        break;
    }
}

/* ---- open and close ---- */

static void close_layer_done(void *arg, int status)
{
    struct stack *stack = arg;
    (void)status; /* who wants to know has flushed */
    if (--stack->closing_layers > 0) {
        return;
    }
    block_close_fn done = stack->close_done;
    void *done_arg = stack->close_arg;
    struct list *link;
    while ((link = list_pop_front(&stack->spare_ops)) != NULL) {
        struct stack_op *op = list_entry(link, struct stack_op, link);
        free(op->iov);
        free(op->fill);
        free(op);
    }
    while (stack->spare_parts) {
        struct stack_part *part = stack->spare_parts;
        stack->spare_parts = part->next_spare;
        free(part);
    }
    free(stack);
    done(done_arg);
}

void stack_try_close(struct stack *stack)
{
    if (!stack->closing || stack->job || stack->snapshot || stack->hold.posted ||
        stack->gate.at || !stack_fill_detach(stack)) {
        return;
    }
    stack->closing = false;
    stack_resolved_forget(stack);
    stack->closing_layers = stack->n_layers;
    for (unsigned i = 0, n = stack->n_layers; i < n; i++) {
        layer_sharing(stack->layers[i])->stacks--;
        layer_unref(stack->layers[i], close_layer_done, stack);
    }
}

static void close_idle(void *arg)
{
    struct stack *stack = arg;
    stack->closing = true;
    stack_try_close(stack);
}

static void stack_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct stack *stack = stack_of(dev);
    stack->close_done = done;
    stack->close_arg = arg;
    if (stack->job) {
        stack_job_stop(stack->job);
    }
    if (stack->hold.held && !stack->snapshot) {
        stack_release(dev);
    }
    blockdev_when_idle(dev, close_idle, stack);
}

static const struct blockdev_ops stack_ops = {
    .kind = "stack",
    .submit = stack_submit,
    .close = stack_close,
};

int stack_open(struct loop *loop, const struct stack_spec *spec, struct blockdev **ret_dev)
{
    if (spec->n_layers == 0 || spec->n_layers > STACK_MAX_LAYERS) {
        return -EINVAL;
    }
    uint64_t size = layer_size_bytes(spec->layers[spec->n_layers - 1]);
    uint32_t block = 512;
    if (spec->bottom && spec->bottom->info.block_bytes > block) {
        block = spec->bottom->info.block_bytes;
    }
    if (block > LAYER_GRANULE || size % block != 0 ||
        (spec->bottom && spec->bottom->info.size_bytes > size)) {
        return -EINVAL;
    }
    if (spec->new_from >= spec->n_layers || (spec->new_from > 0 && !spec->read_only) ||
        (spec->new_from == 0 && spec->old_content)) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < spec->n_layers; i++) {
        const struct layer *by = layer_sharing(spec->layers[i])->overwritten_by;
        if (layer_size_bytes(spec->layers[i]) > size) {
            return -EINVAL;
        }
        if (by && (i + 1 == spec->n_layers || spec->layers[i + 1] != by)) {
            return -EBUSY;
        }
    }
    struct stack *stack = calloc(1, sizeof(*stack));
    if (!stack) {
        return -ENOMEM;
    }
    stack->base.ops = &stack_ops;
    stack->base.loop = loop;
    stack->base.info = (struct block_info){
        .size_bytes = size,
        .block_bytes = block,
        .physical_bytes = LAYER_GRANULE,
        .optimal_bytes = 64 << 10,
        .max_bytes = UINT32_MAX,
        .max_inflight = spec->max_inflight ? spec->max_inflight : 64,
        .read_only = spec->read_only,
        .can_map = true,
        .can_discard = !spec->read_only,
        .discard_zeroes = true,
        .thin = true,
        .changes = spec->new_from > 0,
    };
    stack->bottom = spec->bottom;
    stack->capacity = spec->capacity;
    list_init(&stack->active);
    list_init(&stack->waiting);
    list_init(&stack->held_ops);
    list_init(&stack->spare_ops);
    list_init(&stack->fills);
    for (unsigned i = 0; i < spec->n_layers; i++) {
        layers_add(stack, spec->layers[i]);
    }
    stack->new_from = spec->new_from;
    stack->n_read = spec->old_content ? spec->new_from : spec->n_layers;
    *ret_dev = &stack->base;
    return 0;
}

unsigned stack_layers(const struct blockdev *dev)
{
    return stack_of(dev)->n_layers;
}

struct layer *stack_layer(const struct blockdev *dev, unsigned index)
{
    const struct stack *stack = stack_of(dev);
    CHECK(index < stack->n_layers);
    return stack->layers[index];
}

const struct stack_stats *stack_stats(const struct blockdev *dev)
{
    return &stack_of(dev)->stats;
}
