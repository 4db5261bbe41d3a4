/* SPDX-License-Identifier: Apache-2.0 */
/* Where a disk is, and making it show itself. */
#include "control/api_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/node_place.h"
#include "control/place_real.h"
#include "control/time_text.h"

struct found { /* what is asked for, looked up under the lock */
	uint64_t pool_id;
	char pool[POOL_NAME_MAX + 1];
	struct pool_disk_info info;
};

static int look_up(struct api_request *request, struct found *found)
{
	const char *text = params_text(request->params, "disk");
	struct node *node = request->node;
	struct node_pool *pool;
	uint64_t id;
	int r = 0;

	fiber_mutex_lock(&node->lock);
	if (node_disk_find(node, text, &pool, &id) < 0) {
		r = api_fail(request, ERROR_NOT_FOUND, text, "see: sarsen disk list",
			     "there is no disk '%s': give its number, directory or UUID", text);
	} else {
		found->pool_id = pool->id;
		snprintf(found->pool, sizeof(found->pool), "%s", pool->name);
		r = node_disk_get(pool, id, &found->info);
		if (r < 0)
			r = api_fail_errno(request, r, "locate disk", text);
	}
	fiber_mutex_unlock(&node->lock);
	return r;
}

/* To be pasted into a shell of root: names that could be more than names are not. */
static bool is_plain(const char *name)
{
	return name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				 "0123456789 ._:-")] == '\0';
}

static void refusal_text(const json_t *device, int on, char ret_text[static ERROR_TEXT_MAX])
{
	const char *enclosure = json_string_value(json_object_get(device, "enclosure"));
	const char *slot = json_string_value(json_object_get(device, "slot"));

	if (is_plain(enclosure) && is_plain(slot))
		snprintf(ret_text, ERROR_TEXT_MAX,
			 "the daemon may not switch it; as root: echo %d > '" PLACE_LED_PATH "'",
			 on, enclosure, slot);
	else
		snprintf(ret_text, ERROR_TEXT_MAX,
			 "the daemon may not switch it; root can: write %d to 'locate' of its slot "
			 "below /sys/class/enclosure",
			 on);
}

/* The light beside one device's slot. */
static void switch_light(struct node *node, json_t *device, bool set, enum place_led led)
{
	int r = node_place_led(node, device, set, &led);
	const char *state = led == PLACE_LED_ON ? "on" : "off";
	char text[ERROR_TEXT_MAX];

	if (r == 0) {
		snprintf(text, sizeof(text), "%s",
			 led == PLACE_LED_ON ? "on; switch it off with --off" : "off");
	} else if (r == -ENOENT) {
		state = "none";
		snprintf(text, sizeof(text),
			 "none: this host knows of no light at its slot; try --blink");
	} else if (r == -EACCES) {
		state = "refused";
		refusal_text(device, led == PLACE_LED_ON, text);
	} else {
		state = "failed";
		snprintf(text, sizeof(text), "its enclosure does not switch it: %s; try --blink",
			 strerror(-r));
	}
	json_object_set_new(device, "light", json_string(text));
	json_object_set_new(device, "light_state", json_string(state));
}

static void switch_lights(struct api_request *request, json_t *devices)
{
	bool blink = params_integer(request->params, "blink", 0) > 0;
	enum place_led led = params_bool(request->params, "off") ? PLACE_LED_OFF : PLACE_LED_ON;
	json_t *device;
	size_t i;

	json_array_foreach(devices, i, device) switch_light(request->node, device, !blink, led);
}

static const char *note_of(const struct node_place *place)
{
	if (!place->place)
		return "it was never seen by a daemon that could tell where it is";
	if (place->remembered)
		return "it cannot be found now: this is where it was when it was seen last";
	if (json_array_size(json_object_get(place->place, "devices")) == 0)
		return "its file system is on no drive of this host; see where it is mounted from";
	return NULL;
}

static json_t *to_json(const struct found *found, const struct node_place *place)
{
	const struct pool_disk_info *info = &found->info;
	char uuid[2 * sizeof(info->uuid) + 1], seen[TIME_TEXT_MAX];
	json_t *json;

	for (size_t i = 0; i < sizeof(info->uuid); i++)
		snprintf(uuid + 2 * i, 3, "%02x", info->uuid[i]);
	json = json_pack("{s:I, s:s, s:s, s:s, s:s, s:b}", "disk", (json_int_t)info->id, "pool",
			 found->pool, "directory", info->directory, "state",
			 pool_disk_state_name(info->state), "uuid", uuid, "remembered",
			 place->remembered);
	if (place->place) {
		json_object_set_new(json, "seen", json_string(time_text(place->wall_ns, seen)));
		json_object_update(json, place->place);
	}
	if (note_of(place))
		json_object_set_new(json, "note", json_string(note_of(place)));
	return json;
}

static int blink(struct api_request *request, const struct found *found, unsigned seconds)
{
	json_t *result = request->result;
	uint64_t job;
	int r;

	request->result = NULL;
	r = node_blink_start(request->node, &found->info, seconds, result, &job);
	if (r == -EALREADY)
		return api_fail(request, ERROR_BUSY, found->info.directory,
				"end it with: sarsen job cancel", "disk %" PRIu64 " blinks already",
				found->info.id);
	if (r == -EMFILE)
		return api_fail(request, ERROR_BUSY, found->info.directory,
				"end one of them: sarsen job list, sarsen job cancel",
				"%u disks blink already: more are not seen apart", NODE_BLINKS_MAX);
	if (r < 0)
		return api_fail_errno(request, r, "blink disk", found->info.directory);
	request->result = job_to_json(request->node->jobs, job);
	return 0;
}

static int locate(struct api_request *request, struct found *found)
{
	unsigned seconds = (unsigned)params_integer(request->params, "blink", 0);
	const char *text = params_text(request->params, "disk");
	struct node_place place;
	int r;

	if (seconds > 0 && params_bool(request->params, "off"))
		return api_fail(request, ERROR_INVALID_REQUEST, text,
				"end blinking with: sarsen job cancel",
				"off and blink exclude each other");
	r = look_up(request, found);
	if (r < 0)
		return r;
	if (seconds > 0 && !node_disk_answers(&found->info))
		return api_fail(
			request, ERROR_UNAVAILABLE, text, "see where it was: sarsen disk locate",
			"disk '%s' is %s: nothing is read from it, so it cannot blink", text,
			found->info.silent_ns ? "silent" : pool_disk_state_name(found->info.state));
	r = node_place_get(request->node, found->pool_id, &found->info, &place);
	if (r < 0)
		return api_fail_errno(request, r, "locate disk", text);
	request->result = to_json(found, &place);
	json_decref(place.place);
	switch_lights(request, json_object_get(request->result, "devices"));
	return seconds > 0 ? blink(request, found, seconds) : 0;
}

int api_disk_locate(struct api_request *request)
{
	_cleanup_free_ struct found *found = calloc(1, sizeof(*found)); /* large */

	return found ? locate(request, found)
		     : api_fail_errno(request, -ENOMEM, "locate disk",
				      params_text(request->params, "disk"));
}
