/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which commit was built, for the reports of failing seeds. */
extern const char sim_commit[];
