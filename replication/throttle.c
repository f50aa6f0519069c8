// SPDX-License-Identifier: Apache-2.0
#include "replication/throttle.h"

#include "base/loop.h"

void throttle_set(struct throttle *throttle, uint64_t rate, uint64_t now_ns)
{
    throttle->rate = rate;
    throttle->free_at_ns = now_ns;
}

bool throttle_take(struct throttle *throttle, uint64_t len, uint64_t now_ns)
{
    if (throttle->rate == 0) {
        return true;
    }
    if (throttle->free_at_ns > now_ns) {
        return false;
    }
    if (now_ns - throttle->free_at_ns > THROTTLE_BURST_NS) {
        throttle->free_at_ns = now_ns - THROTTLE_BURST_NS;
    }
    __extension__ typedef unsigned __int128 u128;
    u128 price_ns = (u128)len * SEC_NS / throttle->rate;
    throttle->free_at_ns = price_ns > UINT64_MAX - throttle->free_at_ns
                               ? UINT64_MAX
                               : throttle->free_at_ns + (uint64_t)price_ns;
    return true;
}

uint64_t throttle_wait_ns(const struct throttle *throttle, uint64_t now_ns)
{
    return throttle->rate == 0 || throttle->free_at_ns <= now_ns ? 0
                                                                 : throttle->free_at_ns - now_ns;
}
