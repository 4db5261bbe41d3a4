/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces of a controller: attached, used by commands, detached when no command uses them. */
#include "frontend/nvme/nvme_priv.h"

#include <errno.h>

#include "base/reached.h"
#include "block/remote.h"
#include "codec/crc32c.h"

#define REMOTE_REQUESTS 512u /* on the way to another reactor at once; more wait */

static bool namespace_is_known(const struct nvme_controller *controller, uint32_t nsid)
{
	return controller->shared->admin.namespaces_known[(nsid - 1) / 64] >> (nsid - 1) % 64 & 1;
}

/* Of namespaces that are there and that the guest knows of. */
static uint32_t namespace_sizes(const struct nvme_controller *controller)
{
	uint32_t crc = 0;

	for (uint32_t nsid = 1; nsid <= NVME_NAMESPACE_MAX; nsid++) {
		const struct nvme_ns *ns = nvme_namespace_get(controller, nsid);

		if (ns && namespace_is_known(controller, nsid)) {
			const uint64_t size[] = {nsid, ns->blocks, ns->shift};

			crc = crc32c_more(crc, size, sizeof(size));
		}
	}
	return MAX(crc, 1u);
}

static void namespace_tell(struct nvme_controller *controller, uint32_t nsid)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	admin->namespaces_changed[nsid / 64] |= UINT64_C(1) << nsid % 64;
	nvme_event_raise(controller, NVME_EVENT_NAMESPACES);
}

static void namespace_changed(struct nvme_controller *controller, uint32_t nsid)
{
	struct vfu_admin_state *admin = &controller->shared->admin;
	uint64_t bit = UINT64_C(1) << (nsid - 1) % 64, *known;

	namespace_tell(controller, nsid);
	known = &admin->namespaces_known[(nsid - 1) / 64];
	*known = nvme_namespace_get(controller, nsid) ? *known | bit : *known & ~bit;
	admin->namespaces_sizes = namespace_sizes(controller);
}

/* An engine that died had given some namespace another size, or was about to tell of it. Which one
 * is not known: the guest looks at all. */
static void namespace_tell_sizes(struct nvme_controller *controller)
{
	REACHED("nvme.sizes-changed");
	for (uint32_t nsid = 1; nsid <= NVME_NAMESPACE_MAX; nsid++)
		if (nvme_namespace_get(controller, nsid) && namespace_is_known(controller, nsid))
			namespace_tell(controller, nsid);
}

void nvme_namespace_seen(struct nvme_controller *controller, bool again)
{
	struct vfu_admin_state *admin = &controller->shared->admin;

	if (again && admin->namespaces_sizes &&
	    admin->namespaces_sizes != namespace_sizes(controller))
		namespace_tell_sizes(controller);
	for (uint32_t nsid = 1; nsid <= NVME_NAMESPACE_MAX; nsid++) {
		uint64_t bit = UINT64_C(1) << (nsid - 1) % 64;
		uint64_t *word = &admin->namespaces_known[(nsid - 1) / 64];
		bool there = nvme_namespace_get(controller, nsid) != NULL;

		if (again && there != namespace_is_known(controller, nsid))
			namespace_tell(controller, nsid);
		*word = there ? *word | bit : *word & ~bit;
	}
	admin->namespaces_sizes = namespace_sizes(controller);
}

static void namespace_measure(struct nvme_ns *ns)
{
	uint32_t block_bytes = MAX(ns->volume->block_bytes, ns->options.block_bytes);

	ns->shift = (unsigned)__builtin_ctz(block_bytes);
	ns->blocks = ns->volume->size_bytes >> ns->shift;
}

static int namespace_new(struct nvme_controller *controller,
			 const struct nvme_namespace_options *options, struct nvme_ns **ret_ns)
{
	_cleanup_free_ struct nvme_ns *ns = calloc(1, sizeof(*ns));
	int result;

	if (!ns)
		return -ENOMEM;
	ns->options = *options;
	ns->active = !options->inactive;
	ns->volume = options->volume;
	if (options->volume->home != controller->home) {
		result = remote_volume_new(options->volume, controller->home, REMOTE_REQUESTS,
					   &ns->remote);
		if (result < 0)
			return result;
		ns->volume = ns->remote;
	}
	namespace_measure(ns);
	*ret_ns = TAKE_PTR(ns);
	return 0;
}

static void namespace_join(struct nvme_controller *controller, struct nvme_ns *ns)
{
	ns->member = (struct nvme_member){
		.reservations = ns->options.reservations,
		.controller = controller,
		.nsid = ns->options.nsid,
	};
	nvme_reservation_host(controller, ns->member.host);
	nvme_reservation_join(&ns->member);
}

int nvme_namespace_attach(struct nvme_controller *controller,
			  const struct nvme_namespace_options *options)
{
	uint32_t nsid = options->nsid;
	int result;

	reactor_assert_home(controller->home);
	if (nsid == 0 || nsid > NVME_NAMESPACE_MAX || !options->volume ||
	    (options->block_bytes && options->block_bytes != 512 && options->block_bytes != 4096))
		return -EINVAL;
	if (controller->namespaces[nsid])
		return -EEXIST;
	result = namespace_new(controller, options, &controller->namespaces[nsid]);
	if (result < 0)
		return result;
	controller->stats.namespaces++;
	if (options->reservations)
		namespace_join(controller, controller->namespaces[nsid]);
	if (controller->phase == NVME_SERVING)
		namespace_changed(controller, nsid);
	return 0;
}

int nvme_namespace_detach(struct nvme_controller *controller, uint32_t nsid)
{
	struct nvme_ns *ns;

	reactor_assert_home(controller->home);
	if (nsid == 0 || nsid > NVME_NAMESPACE_MAX || !controller->namespaces[nsid] ||
	    controller->namespaces[nsid]->detaching)
		return -ENOENT;
	ns = controller->namespaces[nsid];
	ns->detaching = true;
	while (ns->commands > 0)
		fiber_queue_wait(&controller->idle);
	if (ns->member.reservations)
		nvme_reservation_leave(&ns->member);
	controller->namespaces[nsid] = NULL;
	controller->stats.namespaces--;
	block_volume_free(ns->remote);
	free(ns);
	if (controller->phase == NVME_SERVING)
		namespace_changed(controller, nsid);
	return 0;
}

int nvme_namespace_set_active(struct nvme_controller *controller, uint32_t nsid, bool active)
{
	struct nvme_ns *ns = nvme_namespace_allocated(controller, nsid);

	reactor_assert_home(controller->home);
	if (!ns || ns->detaching)
		return -ENOENT;
	if (ns->active == active)
		return 0;
	if (!active) {
		ns->detaching = true;
		while (ns->commands > 0)
			fiber_queue_wait(&controller->idle);
		ns->detaching = false;
	}
	ns->active = active;
	if (controller->phase == NVME_SERVING)
		namespace_changed(controller, nsid);
	return 0;
}

void nvme_namespace_leave_all(struct nvme_controller *controller)
{
	for (uint32_t nsid = 1; nsid <= NVME_NAMESPACE_MAX; nsid++) {
		struct nvme_ns *ns = controller->namespaces[nsid];

		if (ns && ns->member.reservations)
			nvme_reservation_leave(&ns->member);
		if (ns)
			ns->member.reservations = NULL;
	}
}

void nvme_namespace_set_block(struct nvme_controller *controller, struct nvme_ns *ns,
			      uint32_t block_bytes)
{
	ns->options.block_bytes = block_bytes;
	namespace_measure(ns);
	namespace_changed(controller, ns->options.nsid);
}

void nvme_namespace_resized(struct nvme_controller *controller, uint32_t nsid)
{
	struct nvme_ns *ns = nvme_namespace_allocated(controller, nsid);

	reactor_assert_home(controller->home);
	if (!ns || ns->detaching)
		return;
	if (ns->remote)
		remote_volume_set_size(ns->remote, ns->options.volume->size_bytes);
	namespace_measure(ns);
	namespace_changed(controller, nsid);
}

struct nvme_ns *nvme_namespace_get(const struct nvme_controller *controller, uint32_t nsid)
{
	struct nvme_ns *ns = nsid <= NVME_NAMESPACE_MAX ? controller->namespaces[nsid] : NULL;

	return ns && ns->active && !ns->detaching ? ns : NULL;
}

struct nvme_ns *nvme_namespace_allocated(const struct nvme_controller *controller, uint32_t nsid)
{
	return nsid <= NVME_NAMESPACE_MAX ? controller->namespaces[nsid] : NULL;
}

uint16_t nvme_namespace_try_use(struct nvme_command *command)
{
	uint32_t nsid = nvme_sqe_of(command)->nsid;
	struct nvme_ns *ns = nvme_namespace_get(command->controller, nsid);

	if (UNLIKELY(!ns))
		return (nsid > 0 && nsid <= NVME_NAMESPACE_MAX ? NVME_SC_INVALID_FIELD
							       : NVME_SC_INVALID_NS) |
		       NVME_STATUS_DNR;
	ns->commands++;
	command->ns = ns;
	return 0;
}

struct nvme_ns *nvme_namespace_use(struct nvme_command *command)
{
	uint16_t status = nvme_namespace_try_use(command);

	if (LIKELY(!status))
		return command->ns;
	nvme_command_end(command, status);
	return NULL;
}

void nvme_namespace_unuse(struct nvme_command *command)
{
	struct nvme_ns *ns = command->ns;

	command->ns = NULL;
	if (UNLIKELY(command->counts_write)) {
		command->counts_write = false;
		ns->member.writes--;
		if (ns->member.writes == 0 && ns->member.settling)
			nvme_reservation_settled(&ns->member);
	}
	if (--ns->commands <= 1 && UNLIKELY(ns->detaching || ns->formatting))
		fiber_queue_wake_all(&command->controller->idle);
}
