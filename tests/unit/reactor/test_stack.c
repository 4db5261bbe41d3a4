/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "reactor/stack.h"

/* Whether a child that writes there dies of it. */
static bool writing_kills(volatile char *at)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		*at = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void every_stack_has_guards(void **state)
{
	struct stack_pool pool;

	assert_int_equal(stack_pool_init(&pool, 3, 30000), 0);
	assert_int_equal(pool.stack_bytes, 32 * KIB); /* whole pages */
	for (unsigned i = 0; i < pool.count; i++) {
		char *stack = stack_pool_get(&pool, i);

		assert_true(IS_ALIGNED((uintptr_t)stack, 4096));
		assert_true(writing_kills(stack)); /* it is not open yet */
		assert_int_equal(stack_pool_open(&pool, i), 0);
		assert_true(writing_kills(stack - 1));
		assert_true(writing_kills(stack + pool.stack_bytes));
		stack[0] = 1;
		stack[pool.stack_bytes - 1] = 1;
	}
	stack_pool_done(&pool);
	assert_null(pool.memory);
	stack_pool_done(&pool);
}

static void says_when_there_is_no_room(void **state)
{
	struct stack_pool pool;

	assert_int_equal(stack_pool_init(&pool, 1u << 16, UINT32_MAX), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_stack_has_guards),
		cmocka_unit_test(says_when_there_is_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
