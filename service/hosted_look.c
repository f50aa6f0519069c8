// SPDX-License-Identifier: Apache-2.0
/*
 * Frozen layers of hosted volumes, opened for copies: as volumes of the array that no record knows. They are opened anew after a
 * start, by who needs them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/hosted_private.h"

int hosted_chain_has(struct db *db, const char *top_layer_id, const char *layer_id)
{
    struct layer_row *rows;
    size_t n;
    int r = layer_chain(db, top_layer_id, &rows, &n);
    int found = 0;

    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < n && layer_id[0] != '\0'; i++) {
        found = found || strcmp(rows[i].head.id, layer_id) == 0;
    }
    free(rows);
    return found;
}

/* new_from: the index above base_id, 0 without one. */
static int look_layers(const struct layer_row *rows, size_t n, const char *base_id,
                       struct array_layer *layers, size_t *ret_new_from)
{
    *ret_new_from = 0;
    for (size_t i = 0; i < n; i++) {
        strcpy(layers[i].id, rows[i].head.id);
        strcpy(layers[i].pool_id, rows[i].pool_id);
        layers[i].size_bytes = rows[i].size_bytes;
        if (base_id != NULL && strcmp(rows[i].head.id, base_id) == 0) {
            *ret_new_from = i + 1;
        }
    }
    return base_id != NULL && (*ret_new_from == 0 || *ret_new_from == n) ? -ENOENT : 0;
}

int hosted_look_open(struct control *control, const char *look_id, const char *layer_id,
                     const char *base_id, bool old_content, array_done_fn done, void *arg)
{
    struct hosted *hosted = control_hosted(control);
    struct array_volume look = {.read_only = true, .frozen = true, .old_content = old_content};
    struct layer_row *rows;
    size_t n;
    int r = layer_chain(control_db(control), layer_id, &rows, &n);

    if (r < 0 || n == 0) {
        return r < 0 ? r : -ENOENT;
    }
    struct array_layer *layers = calloc(n, sizeof(*layers));

    CHECK(layers != NULL && strlen(look_id) <= ARRAY_ID_LEN);
    r = look_layers(rows, n, base_id, layers, &look.new_from);
    if (r == 0) {
        strcpy(look.id, look_id);
        strcpy(look.family, rows[n - 1].family);
        look.layers = layers;
        look.n_layers = n;
        if (rows[0].bottom_volume_id[0] != '\0') {
            look.bottom = hosted_bottom_opener(hosted, rows[0].bottom_volume_id);
            look.bottom_bytes = rows[0].bottom_bytes;
        }
        array_volume_open(hosted->array, &look, done, arg);
    }
    free(layers);
    free(rows);
    return r;
}
