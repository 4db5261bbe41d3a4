/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Messages to the service manager over the socket that NOTIFY_SOCKET names (sd_notify(3)). */
#include <stdint.h>

/* "READY=1" and the like. 0 also when there is no manager; else a negative errno. */
int notify_send(const char *message);
/* How often the manager wants a sign of life, "WATCHDOG=1"; 0 when it does not (WATCHDOG_USEC and
 * WATCHDOG_PID, sd_watchdog_enabled(3)). */
uint64_t notify_watchdog_ns(void);
