/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sarsen-keeper: holds a virtual machine's NVMe controller while the engine may come and go.
 *
 *     sarsen-keeper --name NAME --link PATH --socket PATH [--doorbells trapped|mapped]
 *                   [--queues N] [--group GID]
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/notify.h"
#include "keeper/keeper.h"
#include "vfu/shared.h"

static int usage(void)
{
	fprintf(stderr, "usage: sarsen-keeper --name NAME --link PATH --socket PATH "
			"[--doorbells trapped|mapped] [--queues N] [--group GID]\n");
	return 2;
}

static int parse(int argc, char **argv, struct keeper_options *options)
{
	static const struct option names[] = {
		{"name", required_argument, NULL, 'n'},
		{"link", required_argument, NULL, 'l'},
		{"socket", required_argument, NULL, 's'},
		{"doorbells", required_argument, NULL, 'd'},
		{"queues", required_argument, NULL, 'q'},
		{"group", required_argument, NULL, 'g'},
		{"resume", required_argument, NULL, 'r'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'n':
			options->name = optarg;
			break;
		case 'l':
			options->link_path = optarg;
			break;
		case 's':
			options->socket_path = optarg;
			break;
		case 'd':
			options->doorbells_mapped = strcmp(optarg, "mapped") == 0;
			if (!options->doorbells_mapped && strcmp(optarg, "trapped") != 0)
				return -EINVAL;
			break;
		case 'g':
			options->group = (gid_t)strtoul(optarg, NULL, 10);
			break;
		case 'q':
			options->queues = (unsigned)strtoul(optarg, NULL, 10);
			if (options->queues < 1 || options->queues >= VFU_QUEUE_COUNT)
				return -EINVAL;
			break;
		case 'r':
			options->resume_fd = (int)strtol(optarg, NULL, 10);
			break;
		default:
			return -EINVAL;
		}
	}
	return optind == argc && options->name && options->link_path && options->socket_path
		       ? 0
		       : -EINVAL;
}

static void tell_ready(void)
{
	int r = notify_send("READY=1");

	if (r < 0)
		log_warning("keeper", "the service manager cannot be notified", "error=%d", r);
}

int main(int argc, char **argv)
{
	struct keeper_options options = {.group = (gid_t)-1,
					 .arguments = argv,
					 .resume_fd = -1,
					 .ready = tell_ready,
					 .confine = true};
	int r;

	if (parse(argc, argv, &options) < 0)
		return usage();
	r = keeper_run(&options);
	if (r < 0)
		fprintf(stderr, "sarsen-keeper: %s: %s\n", options.name, strerror(-r));
	return r < 0;
}
