// SPDX-License-Identifier: Apache-2.0
/*
 * A part of every unit program: SIGPIPE is ignored from the start, as smirrord does, for a program that runs a loop
 * in its main thread writes to sockets that the other side may have left.
 */
#include <signal.h>

__attribute__((constructor)) static void ignore_sigpipe(void)
{
    signal(SIGPIPE, SIG_IGN);
}
