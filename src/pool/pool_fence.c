/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/pool_fence.h"

#include <stdatomic.h>

static _Atomic int current; /* enum pool_fence */

void pool_fence_set(enum pool_fence fence)
{
	atomic_store(&current, (int)fence);
}

enum pool_fence pool_fence_get(void)
{
	return (enum pool_fence)atomic_load_explicit(&current, memory_order_relaxed);
}
