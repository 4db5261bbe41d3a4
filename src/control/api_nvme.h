/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Of NVMe controllers: what the handlers of the API share. */
#include "control/api_priv.h"
#include "control/node_nvme.h"

/* Why a controller is not served, in a few words. */
const char *api_nvme_error_text(int error);
/* Of one that is used (node_nvme_use()); asks it at its home. */
json_t *api_nvme_to_json(struct node_controller *controller);
json_t *api_nvme_namespace_to_json(struct node_controller *controller,
				   const struct node_namespace *ns);
/* What to paste into a command line of QEMU, and into the domain of libvirt. NULL without memory.
 */
json_t *api_nvme_usage_to_json(const struct node_controller *controller);
/* -EINVAL after refusing, when the vDisk is attached to a controller. */
int api_nvme_refuse_attached(struct api_request *request, const struct node_vdisk *vdisk);
