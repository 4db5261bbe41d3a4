/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Messages to the service manager over the socket that NOTIFY_SOCKET names (sd_notify(3)). */

/* "READY=1" and the like. 0 also when there is no manager; else a negative errno. */
int notify_send(const char *message);
