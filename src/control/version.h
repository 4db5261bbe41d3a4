/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Of the project, such as "0.1.0". */
const char *version_text(void);
