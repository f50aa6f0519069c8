// SPDX-License-Identifier: Apache-2.0
/*
 * A stream of bytes into a connection: from the first byte on, within the login, or after it, by the
 * first byte of the input. The target runs on a simulated loop over a socket pair.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/loop_sim.h"
#include "block/mem_dev.h"
#include "target/connection.h"
#include "target/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NAME "iqn.2026-11.io.smirror:fuzz"

static const char login_text[] = "InitiatorName=iqn.a:i\0TargetName=" NAME "\0"
                                 "SessionType=Normal\0InitialR2T=No\0ImmediateData=Yes\0"
                                 "MaxBurstLength=4096\0FirstBurstLength=2048";

static void put_login(uint8_t *out, size_t *ret_len)
{
    memset(out, 0, PDU_BHS + sizeof(login_text) + 4);
    out[0] = PDU_LOGIN_REQUEST | PDU_IMMEDIATE;
    out[1] = 0x87; /* operational to full feature */
    put_be24(out + 5, sizeof(login_text));
    memcpy(out + PDU_BHS, login_text, sizeof(login_text));
    *ret_len = PDU_BHS + sizeof(login_text) + pdu_pad(sizeof(login_text));
}

static void drain(int fd)
{
    char sink[65536];
    while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
    }
}

static void closed(void *arg, int status)
{
    (void)status;
    *(bool *)arg = true;
}

static void device_closed(void *arg)
{
    (void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    log_set_level(LOG_ERROR);
    struct loop_sim *sim;
    struct loop *loop;
    CHECK(loop_sim_new(0, &sim) == 0 && loop_sim_add(sim, "one", &loop) == 0);
    struct mem_dev_spec disk = {.size_bytes = 1 << 20};
    struct blockdev *dev;
    CHECK(mem_dev_new(loop, &disk, &dev) == 0);
    struct target_server_spec spec = {.owner = loop, .loops = &loop, .n_loops = 1};
    spec.limits.queue_depth = 8;
    spec.limits.receive_bytes = 4 << 20;
    spec.limits.data_bytes = 8 << 20;
    struct target_server *server;
    CHECK(target_server_new(&spec, &server) == 0);
    struct target_lun_spec lun = {.dev = dev, .naa = 0x3000000000000001ull, .thin = true};
    struct target_initiator everyone = {0};
    struct target_spec target_spec = {.name = NAME, .loop = loop, .luns = &lun, .n_luns = 1};
    target_spec.access = (struct target_access){.initiators = &everyone, .n_initiators = 1};
    struct target *target;
    CHECK(target_new(server, &target_spec, &target, NULL) == 0);
    loop_sim_run_until_idle(sim);

    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    uint8_t first[1024];
    size_t first_len = 0;
    unsigned mode = data[0] % 4;
    data++;
    size--;
    if (mode >= 2) {
        put_login(first, &first_len);
    }
    atomic_fetch_add(&server->connections, 1);
    connection_new(server, &server->shards[0], mode == 1 ? NULL : target, fds[0], first, first_len);
    loop_sim_run_until_idle(sim);
    while (size > 0) {
        drain(fds[1]);
        ssize_t n = send(fds[1], data, size < 8192 ? size : 8192, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0) {
            break;
        }
        data += n;
        size -= (size_t)n;
        loop_sim_run_until_idle(sim);
    }
    drain(fds[1]);
    loop_sim_run_until_idle(sim);
    close(fds[1]);
    loop_sim_run_until_idle(sim);
    bool done = false;
    target_server_close(server, 0, closed, &done);
    loop_sim_advance(sim, 5 * SEC_NS);
    CHECK(done);
    target_server_free(server);
    blockdev_close(dev, device_closed, NULL);
    loop_sim_run_until_idle(sim);
    loop_free(loop);
    loop_sim_free(sim);
    return 0;
}
