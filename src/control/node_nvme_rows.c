/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows and entries of controllers and their namespaces: JSON text, docs/format.md. The row
 * (CATALOG_NVME, 0) is the node's identity, from which every namespace has its
 * NGUID and every LUN its identifiers.
 */
#include "control/node_nvme.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static struct catalog_key controller_key(uint64_t id)
{
	struct catalog_key key = catalog_key(CATALOG_NVME);

	catalog_key_add(&key, id);
	return key;
}

/* Of one namespace, or with nsid 0 what all those of the controller begin with. */
static struct catalog_key namespace_key(uint64_t id, uint32_t nsid)
{
	struct catalog_key key = catalog_key(CATALOG_NVME_NAMESPACE);

	catalog_key_add(&key, id);
	if (nsid)
		catalog_key_add(&key, nsid);
	return key;
}

/* Takes `row`. */
static int put(struct node *node, struct catalog_key key, json_t *row)
{
	_cleanup_free_ char *text = json_dumps(row, JSON_COMPACT);
	const struct catalog_change change = {.kind = CATALOG_PUT,
					      .key = key,
					      .value = text,
					      .length = text ? (uint32_t)strlen(text) : 0};

	json_decref(row);
	return text ? catalog_commit(node->catalog, &change, 1) : -ENOMEM;
}

static json_t *controller_row(const struct node_controller *controller, bool has_managed,
			      const struct nvme_management *managed)
{
	char subsystem[17];
	json_t *json;

	snprintf(subsystem, sizeof(subsystem), "%016" PRIx64, controller->subsystem_id);
	json = json_pack("{s:s, s:s, s:i, s:i, s:s}", "name", controller->name, "doorbells",
			 controller->spec.doorbells_mapped ? "mapped" : "trapped", "queues",
			 (int)controller->spec.queues, "controller_id",
			 (int)controller->controller_id, "subsystem_id", subsystem);
	if (json && controller->manage_bytes)
		json_object_set_new(json, "manage",
				    json_pack("{s:I, s:I}", "container",
					      (json_int_t)controller->manage_container, "bytes",
					      (json_int_t)controller->manage_bytes));
	if (json && has_managed)
		json_object_set_new(json, "managed",
				    json_pack("{s:i, s:I, s:I, s:I}", "kind", (int)managed->kind,
					      "nsid", (json_int_t)managed->nsid, "epoch",
					      (json_int_t)managed->epoch, "sequence",
					      (json_int_t)managed->sequence));
	return json;
}

int node_nvme_write_controller(const struct node_controller *controller)
{
	return put(controller->node, controller_key(controller->id),
		   controller_row(controller, controller->has_managed, &controller->managed));
}

static json_t *namespace_row(const struct node_namespace *ns)
{
	return json_pack("{s:I, s:b, s:b, s:i, s:b, s:b, s:b}", "vdisk", (json_int_t)ns->vdisk_id,
			 "read_only", ns->read_only, "shared", ns->shared, "block",
			 (int)ns->block_bytes, "stale", ns->stale, "managed", ns->managed,
			 "detached", ns->detached);
}

int node_nvme_write_namespace(const struct node_controller *controller,
			      const struct node_namespace *ns)
{
	return put(controller->node, namespace_key(controller->id, ns->nsid), namespace_row(ns));
}

int node_nvme_update_namespace(const struct node_controller *controller,
			       const struct node_namespace *ns)
{
	struct catalog_key key = namespace_key(controller->id, ns->nsid);
	_cleanup_json_ json_t *json = namespace_row(ns);
	_cleanup_free_ char *text = json_dumps(json, JSON_COMPACT);
	struct catalog_row row;
	int r = text ? catalog_get(controller->node->catalog, &key, &row) : -ENOMEM;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	const struct catalog_change changes[] = {
		{.kind = CATALOG_EXPECT, .key = key, .version = row.version},
		{.kind = CATALOG_PUT, .key = key, .value = text, .length = (uint32_t)strlen(text)}};

	catalog_row_done(&row);
	return catalog_commit(controller->node->catalog, changes, ARRAY_SIZE(changes));
}

int node_nvme_write_managed(struct node_controller *controller, const struct node_namespace *ns,
			    bool deleted, const struct nvme_management *result)
{
	_cleanup_json_ json_t *ns_row = namespace_row(ns);
	_cleanup_json_ json_t *own_row =
		controller_row(controller, result || controller->has_managed,
			       result ? result : &controller->managed);
	_cleanup_free_ char *ns_text = json_dumps(ns_row, JSON_COMPACT);
	_cleanup_free_ char *own_text = json_dumps(own_row, JSON_COMPACT);
	int r = -ENOMEM;

	if (ns_text && own_text) {
		const struct catalog_change changes[] = {
			{.kind = deleted ? CATALOG_DELETE : CATALOG_PUT,
			 .key = namespace_key(controller->id, ns->nsid),
			 .value = deleted ? NULL : ns_text,
			 .length = deleted ? 0 : (uint32_t)strlen(ns_text)},
			{.kind = CATALOG_PUT,
			 .key = controller_key(controller->id),
			 .value = own_text,
			 .length = (uint32_t)strlen(own_text)}};

		r = catalog_commit(controller->node->catalog, changes, ARRAY_SIZE(changes));
	}
	if (r == 0 && result) {
		controller->managed = *result;
		controller->has_managed = true;
	}
	return r;
}

int node_nvme_delete_namespace(const struct node_controller *controller, uint32_t nsid)
{
	const struct catalog_change change = {.kind = CATALOG_DELETE,
					      .key = namespace_key(controller->id, nsid)};

	return catalog_commit(controller->node->catalog, &change, 1);
}

int node_nvme_delete_controller(const struct node_controller *controller)
{
	const struct catalog_change changes[] = {
		{.kind = CATALOG_DELETE, .key = controller_key(controller->id)},
		{.kind = CATALOG_DELETE_PREFIX, .key = namespace_key(controller->id, 0)}};

	return catalog_commit(controller->node->catalog, changes, ARRAY_SIZE(changes));
}

static void set_paths(struct node_controller *controller)
{
	const char *directory = controller->node->options.nvme.directory;
	struct keeper_spec *spec = &controller->spec;
	size_t size = sizeof(spec->link);

	if (snprintf(spec->link, size, "%s/%s.link", directory, controller->name) >= (int)size ||
	    snprintf(spec->socket, size, "%s/%s.sock", directory, controller->name) >= (int)size)
		spec->link[0] = spec->socket[0] = '\0';
}

int node_nvme_add(struct node *node, uint64_t id, const char *name,
		  struct node_controller **ret_controller)
{
	struct node_controller *controller = calloc(1, sizeof(*controller));

	if (!controller)
		return -ENOMEM;
	controller->node = node;
	controller->id = id;
	snprintf(controller->name, sizeof(controller->name), "%s", name);
	controller->spec.name = controller->name;
	set_paths(controller);
	list_init(&controller->namespaces);
	fiber_mutex_init(&controller->lock);
	controller->home = node_next_reactor(node);
	list_push_back(&node->controllers, &controller->entry); /* ids only grow */
	*ret_controller = controller;
	return 0;
}

int node_nvme_add_namespace(struct node_controller *controller, const struct node_namespace *ns)
{
	struct node_namespace *copy = malloc(sizeof(*copy)), *other;
	struct list_node *next = &controller->namespaces.head;

	if (!copy)
		return -ENOMEM;
	*copy = *ns;
	LIST_FOR_EACH (&controller->namespaces, other, struct node_namespace, link)
		if (other->nsid > ns->nsid && next == &controller->namespaces.head)
			next = &other->link;
	list_insert_before(next, &copy->link);
	return 0;
}

void node_nvme_free(struct node_controller *controller)
{
	struct node_namespace *ns;

	ASSERT(!controller->link && controller->users == 0 && !controller->connecting);
	reactor_timer_cancel(controller->node->home, &controller->retry);
	LIST_FOR_EACH (&controller->namespaces, ns, struct node_namespace, link)
		free(ns);
	list_remove(&controller->entry);
	free(controller);
}

static int parse_hex(const char *text, uint64_t *ret_number)
{
	if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return -EUCLEAN;
	return sscanf(text, "%16" SCNx64, ret_number) == 1 ? 0 : -EUCLEAN;
}

static int parse_manage(struct node_controller *controller, const json_t *json)
{
	json_t *manage = json_object_get(json, "manage"), *last = json_object_get(json, "managed");
	json_int_t container, bytes, nsid, epoch, sequence;
	int kind;

	if (manage) {
		if (json_unpack(manage, "{s:I, s:I}", "container", &container, "bytes", &bytes) < 0)
			return -EUCLEAN;
		controller->manage_container = (uint64_t)container;
		controller->manage_bytes = (uint64_t)bytes;
	}
	if (!last)
		return 0;
	if (json_unpack(last, "{s:i, s:I, s:I, s:I}", "kind", &kind, "nsid", &nsid, "epoch", &epoch,
			"sequence", &sequence) < 0)
		return -EUCLEAN;
	controller->managed = (struct nvme_management){.kind = (enum nvme_management_kind)kind,
						       .nsid = (uint32_t)nsid,
						       .epoch = (uint32_t)epoch,
						       .sequence = (uint64_t)sequence};
	controller->has_managed = true;
	return 0;
}

static int parse_controller(struct node *node, uint64_t id, const json_t *json)
{
	const char *name, *doorbells, *subsystem;
	struct node_controller *controller;
	int queues, controller_id, r;
	uint64_t subsystem_id;

	if (json_unpack((json_t *)json, "{s:s, s:s, s:i, s:i, s:s}", "name", &name, "doorbells",
			&doorbells, "queues", &queues, "controller_id", &controller_id,
			"subsystem_id", &subsystem) < 0 ||
	    strlen(name) > KEEPER_NAME_MAX || queues < 1 || queues >= (int)VFU_QUEUE_COUNT ||
	    controller_id < 1 || controller_id > UINT16_MAX ||
	    parse_hex(subsystem, &subsystem_id) < 0)
		return -EUCLEAN;
	r = node_nvme_add(node, id, name, &controller);
	if (r < 0)
		return r;
	controller->spec.doorbells_mapped = strcmp(doorbells, "mapped") == 0;
	controller->spec.queues = (unsigned)queues;
	controller->controller_id = (uint16_t)controller_id;
	controller->subsystem_id = subsystem_id;
	return parse_manage(controller, json);
}

static struct node_controller *by_id(struct node *node, uint64_t id)
{
	struct node_controller *controller;

	LIST_FOR_EACH (&node->controllers, controller, struct node_controller, entry)
		if (controller->id == id)
			return controller;
	return NULL;
}

static int parse_namespace(struct node *node, const struct catalog_row *row, const json_t *json)
{
	struct node_controller *controller = by_id(node, catalog_key_number(&row->key, 0));
	struct node_namespace ns = {0};
	int read_only, shared, block, stale = false, managed = false, detached = false;
	json_int_t vdisk;

	if (row->key.length == namespace_key(1, 1).length)
		ns.nsid = (uint32_t)catalog_key_number(&row->key, 1);
	if (!controller || ns.nsid < 1 || ns.nsid > NVME_NAMESPACE_MAX ||
	    json_unpack((json_t *)json, "{s:I, s:b, s:b, s:i, s?b, s?b, s?b}", "vdisk", &vdisk,
			"read_only", &read_only, "shared", &shared, "block", &block, "stale",
			&stale, "managed", &managed, "detached", &detached) < 0 ||
	    (block != 0 && block != 512 && block != 4096))
		return -EUCLEAN;
	ns.vdisk_id = (uint64_t)vdisk;
	ns.read_only = read_only;
	ns.shared = shared;
	ns.stale = stale;
	ns.managed = managed;
	ns.detached = managed && detached;
	ns.block_bytes = (uint32_t)block;
	return node_nvme_add_namespace(controller, &ns);
}

static int parse_row(struct node *node, const struct catalog_row *row)
{
	_cleanup_json_ json_t *json = json_loadb((const char *)row->value, row->length, 0, NULL);
	uint64_t id = catalog_key_number(&row->key, 0);
	const char *identity;

	if (row->key.bytes[0] == CATALOG_NVME_NAMESPACE)
		return parse_namespace(node, row, json);
	if (id > 0)
		return parse_controller(node, id, json);
	if (json_unpack(json, "{s:s}", "identity", &identity) < 0)
		return -EUCLEAN;
	return parse_hex(identity, &node->identity);
}

static int read_table(struct node *node, enum catalog_table table)
{
	const struct catalog_key prefix = catalog_key(table);
	struct catalog_rows rows;
	int r = catalog_scan(node->catalog, &prefix, NULL, 0, &rows);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < rows.count; i++) {
		r = parse_row(node, &rows.rows[i]);
		if (r == 0 || r == -ENOMEM)
			continue;
		log_error("node", "ignoring a row of NVMe that is not understood",
			  "table=%d controller=%" PRIu64 " error=%d", (int)table,
			  catalog_key_number(&rows.rows[i].key, 0), r);
		r = 0;
	}
	catalog_rows_done(&rows);
	return r;
}

/* The first start makes it; it never changes afterwards. */
static int make_identity(struct node *node)
{
	struct world *world = node->options.world;
	char text[17];
	int r;

	while (node->identity == 0)
		world->ops->random(world, &node->identity, sizeof(node->identity));
	snprintf(text, sizeof(text), "%016" PRIx64, node->identity);
	r = put(node, controller_key(0), json_pack("{s:s}", "identity", text));
	if (r < 0)
		node->identity = 0;
	return r;
}

int node_nvme_read_rows(struct node *node)
{
	int r = read_table(node, CATALOG_NVME);

	if (r == 0)
		r = read_table(node, CATALOG_NVME_NAMESPACE);
	return r == 0 && node->identity == 0 ? make_identity(node) : r;
}
