/* SPDX-License-Identifier: Apache-2.0 */
/* Controllers as JSON, and the texts to paste into QEMU and libvirt. */
#include "control/api_nvme.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *api_nvme_error_text(int error)
{
	const char *text;

	switch (error) {
	case -ENOPKG:
		return "the keeper program could not be started";
	case -ENOENT:
	case -ECONNREFUSED:
		return "its keeper does not listen";
	case -ECONNRESET:
		return "its keeper has ended";
	case -ENOTCONN:
		return "it has no keeper now";
	case -ETIMEDOUT:
		return "its keeper did not answer in time";
	case -ECANCELED:
		return "something else is to be done with it";
	case -EPROTO:
		return "its keeper is of a version that this daemon does not know";
	case -EPROTONOSUPPORT:
		return "the keeper and the program are of versions that do not fit";
	case -ENOEXEC:
		return "the program is no keeper that can take over";
	case -ENAMETOOLONG:
		return "the paths of its sockets would be longer than 107 characters";
	case -ENODEV:
		return "NVMe is disabled";
	default:
		text = api_error_text(error);
		return text ? text : "see the daemon's log";
	}
}

static const char *state_text(const struct node_controller *controller)
{
	static const char *const texts[] = {[NODE_CONTROLLER_STARTING] = "starting",
					    [NODE_CONTROLLER_ONLINE] = "online",
					    [NODE_CONTROLLER_FAILED] = "failed",
					    [NODE_CONTROLLER_DELETING] = "deleting"};

	ASSERT(controller->state < ARRAY_SIZE(texts));
	return texts[controller->state];
}

json_t *api_nvme_namespace_to_json(struct node_controller *controller,
				   const struct node_namespace *ns)
{
	const struct node_vdisk *vdisk = node_vdisk_by_id(controller->node, ns->vdisk_id);
	uint32_t block = ns->block_bytes ? ns->block_bytes : vdisk ? vdisk->info.block_bytes : 0;
	json_t *json = json_pack(
		"{s:s, s:I, s:s, s:I, s:I, s:b, s:b, s:s}", "controller", controller->name, "nsid",
		(json_int_t)ns->nsid, "vdisk", vdisk ? vdisk->name : "", "size_bytes",
		(json_int_t)(vdisk ? vdisk->info.size_bytes : 0), "block_bytes", (json_int_t)block,
		"read_only", ns->read_only, "shared", ns->shared, "state",
		ns->error          ? "failed"
		: ns->detached     ? "detached"
		: controller->link ? "online"
				   : "offline");

	if (ns->error)
		json_object_set_new(json, "error", json_string(api_error_text(ns->error)));
	return json;
}

/* Adds "namespaces" and what a line of a table says of them. */
static void add_namespaces(struct node_controller *controller, json_t *json)
{
	json_t *list = json_array();
	struct node_namespace *ns;
	char text[256] = "";

	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link) {
		json_t *one = api_nvme_namespace_to_json(controller, ns);
		size_t used = strlen(text);

		snprintf(text + used, sizeof(text) - used, "%s%u=%s", used ? ", " : "", ns->nsid,
			 json_string_value(json_object_get(one, "vdisk")));
		json_array_append_new(list, one);
	}
	json_object_set_new(json, "namespaces", list);
	json_object_set_new(json, "namespace_names", json_string(text));
}

static json_t *guest_to_json(const struct node_controller_status *status)
{
	const struct nvme_stats *stats = &status->stats;
	const char *state = stats->fatal      ? "fatal"
			    : stats->shutdown ? "shut down"
			    : stats->ready    ? "ready"
			    : stats->enabled  ? "enabling"
					      : "disabled";

	return json_pack("{s:b, s:s, s:i, s:i, s:i, s:s}", "connected", status->client_connected,
			 "state", state, "submission_queues", (int)stats->submission_queues,
			 "completion_queues", (int)stats->completion_queues, "namespaces",
			 (int)stats->namespaces, "interrupts",
			 status->msix_enabled ? "msi-x" : "intx");
}

static json_t *keeper_to_json(const struct node_controller_status *status)
{
	const struct vfu_counters *counters = &status->counters;

	return json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "state", "running", "pid",
		(json_int_t)status->keeper_pid, "messages", (json_int_t)counters->messages, "traps",
		(json_int_t)counters->traps, "doorbell_traps", (json_int_t)counters->doorbell_traps,
		"maps", (json_int_t)counters->maps, "unmaps", (json_int_t)counters->unmaps,
		"resets", (json_int_t)counters->resets, "engines", (json_int_t)counters->engines,
		"longest_message_ns", (json_int_t)counters->longest_message_ns);
}

static json_t *commands_to_json(const struct nvme_stats *stats)
{
	json_t *json = json_pack(
		"{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "in_flight",
		(int)stats->commands_in_flight, "in_flight_bytes",
		(json_int_t)stats->bytes_in_flight, "reads", (json_int_t)stats->reads, "writes",
		(json_int_t)stats->writes, "flushes", (json_int_t)stats->flushes, "others",
		(json_int_t)stats->others, "read_bytes", (json_int_t)stats->bytes_read,
		"written_bytes", (json_int_t)stats->bytes_written);
	json_t *more = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I}", "errors", (json_int_t)stats->errors, "admin",
		(json_int_t)stats->admin_commands, "aborted", (json_int_t)stats->aborted,
		"poisoned", (json_int_t)stats->poisoned, "interrupts",
		(json_int_t)stats->interrupts, "wakeups", (json_int_t)stats->wakeups);

	json_object_update(json, more);
	json_decref(more);
	return json;
}

/* What the guest may make. */
static void add_manage(const struct node_controller *controller, json_t *json)
{
	struct container_info container;

	if (!controller->manage_bytes)
		return;
	if (container_get(controller->node->catalog, controller->manage_container, &container) == 0)
		json_object_set_new(json, "manage", json_string(container.name));
	json_object_set_new(json, "manage_limit_bytes",
			    json_integer((json_int_t)controller->manage_bytes));
}

json_t *api_nvme_to_json(struct node_controller *controller)
{
	_cleanup_free_ struct node_controller_status *status = calloc(1, sizeof(*status));
	int r = status ? node_nvme_get_status(controller, status) : -ENOMEM;
	json_t *json = json_pack("{s:s, s:I, s:s, s:s, s:s, s:i, s:i}", "name", controller->name,
				 "id", (json_int_t)controller->id, "state", state_text(controller),
				 "socket", controller->spec.socket, "doorbells",
				 controller->spec.doorbells_mapped ? "mapped" : "trapped", "queues",
				 (int)controller->spec.queues, "reactor",
				 (int)reactor_index(controller->home));

	if (controller->error)
		json_object_set_new(json, "error",
				    json_string(api_nvme_error_text(controller->error)));
	add_namespaces(controller, json);
	add_manage(controller, json);
	if (r < 0) {
		json_object_set_new(json, "keeper", json_pack("{s:s}", "state", "unknown"));
		return json;
	}
	json_object_set_new(json, "keeper", keeper_to_json(status));
	json_object_set_new(json, "engine",
			    json_pack("{s:s, s:I}", "state",
				      status->engine_asleep ? "asleep" : "polling", "epoch",
				      (json_int_t)status->engine_epoch));
	json_object_set_new(json, "guest", guest_to_json(status));
	json_object_set_new(json, "commands", commands_to_json(&status->stats));
	return json;
}

/* The value of QEMU's -device: only its JSON form takes a socket. */
static char *device_text(const struct node_controller *controller)
{
	_cleanup_json_ json_t *device =
		json_pack("{s:s, s:{s:s, s:s}}", "driver", "vfio-user-pci", "socket", "type",
			  "unix", "path", controller->spec.socket);

	return json_dumps(device, JSON_COMPACT);
}

struct escape {
	char character;
	const char *text;
};

static const struct escape shell_escapes[] = {{'\'', "'\\''"}, {0}}; /* within '' */
static const struct escape xml_escapes[] = {
	{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&apos;"}, {0}};

static void put_escaped(FILE *out, const char *text, const struct escape *escapes)
{
	for (; *text; text++) {
		const struct escape *escape = escapes;

		while (escape->character && escape->character != *text)
			escape++;
		if (escape->character)
			fputs(escape->text, out);
		else
			fputc(*text, out);
	}
}

static void put_qemu(FILE *out, const char *device)
{
	fputs("-M q35,memory-backend=mem \\\n"
	      "-object memory-backend-memfd,id=mem,size=1G,share=on -m 1G \\\n"
	      "-device '",
	      out);
	put_escaped(out, device, shell_escapes);
	fputs("'\n", out);
}

static void put_libvirt(FILE *out, const char *device)
{
	fputs("<memoryBacking>\n"
	      "  <source type='memfd'/>\n"
	      "  <access mode='shared'/>\n"
	      "</memoryBacking>\n"
	      "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"
	      "  <qemu:arg value='-device'/>\n"
	      "  <qemu:arg value='",
	      out);
	put_escaped(out, device, xml_escapes);
	fputs("'/>\n"
	      "</qemu:commandline>\n",
	      out);
}

static void put_usage(FILE *out, const char *device)
{
	fputs("For QEMU 11.1 or newer; the size of the machine's memory stands there twice:\n\n",
	      out);
	put_qemu(out, device);
	fputs("\nFor libvirt, below <domain>:\n\n", out);
	put_libvirt(out, device);
}

/* What `put` writes; the caller frees. NULL without memory. */
static char *text_of(void (*put)(FILE *out, const char *device), const char *device)
{
	char *text = NULL;
	size_t length;
	FILE *out = device ? open_memstream(&text, &length) : NULL;

	if (!out)
		return NULL;
	put(out, device);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

json_t *api_nvme_usage_to_json(const struct node_controller *controller)
{
	_cleanup_free_ char *device = device_text(controller);
	_cleanup_free_ char *qemu = text_of(put_qemu, device);
	_cleanup_free_ char *libvirt = text_of(put_libvirt, device);
	_cleanup_free_ char *usage = text_of(put_usage, device);

	if (!qemu || !libvirt || !usage)
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", controller->name, "socket",
			 controller->spec.socket, "device", device, "qemu", qemu, "libvirt",
			 libvirt, "usage", usage);
}
