/* SPDX-License-Identifier: Apache-2.0 */
/* Identify (NVMe 1.4, 5.15; the command-set structures of 2.0). */
#include "frontend/nvme/nvme_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/endian.h"

#define VENDOR_ID     0x1d1du /* as the PCI function's */
#define SGL_SUPPORTED 0x1u    /* without alignment */
#define ANSWER_BYTES  4096u
#define LBA_FORMATS   2u

union identify_answer {
	unsigned char bytes[ANSWER_BYTES];
	struct nvme_id_ctrl controller;
	struct nvme_id_ns ns;
	struct nvme_id_independent_id_ns independent;
	struct nvme_ns_list list;
	struct nvme_ctrl_list controllers;
	struct nvme_id_ctrl_nvm limits;
};

/* Padded with spaces, not terminated. */
static void identify_text(char *to, size_t size, const char *text)
{
	memset(to, ' ', size);
	memcpy(to, text, MIN(strlen(text), size));
}

static void identify_controller(const struct nvme_controller *controller, struct nvme_id_ctrl *id)
{
	const struct nvme_controller_options *options = &controller->options;

	id->vid = id->ssvid = VENDOR_ID;
	identify_text(id->sn, sizeof(id->sn), options->serial);
	identify_text(id->mn, sizeof(id->mn), options->model);
	identify_text(id->fr, sizeof(id->fr), NVME_FIRMWARE);
	id->rab = 6;
	id->cmic = NVME_CTRL_CMIC_MULTI_CTRL;
	id->mdts = 8; /* NVME_DATA_BYTES_MAX in pages of 4 KiB, as a power of two */
	id->cntlid = options->controller_id;
	id->ver = controller->shared->registers.vs;
	id->oaes = NVME_CTRL_OAES_NA;
	id->ctratt = NVME_CTRL_CTRATT_128_ID;
	id->cntrltype = NVME_CTRL_CNTRLTYPE_IO;
	id->oacs = NVME_CTRL_OACS_DBBUF_CFG | NVME_CTRL_OACS_FORMAT;
	if (options->manage_bytes) {
		id->oacs |= NVME_CTRL_OACS_NS_MGMT;
		put_le64(id->tnvmcap, options->manage_bytes);
		put_le64(id->unvmcap, nvme_manage_left(controller));
	}
	id->acl = NVME_ABORT_MAX - 1;
	id->aerl = NVME_AER_MAX - 1;
	id->frmw = NVME_CTRL_FRMW_1ST_RO | 1 << 1;
	id->lpa = NVME_CTRL_LPA_CMD_EFFECTS | NVME_CTRL_LPA_EXTENDED;
	id->elpe = NVME_ERROR_ENTRIES - 1;
	id->wctemp = 343;
	id->cctemp = 353;
	id->kas = NVME_KEEP_ALIVE_MS / 100;
	id->sqes = 0x66;
	id->cqes = 0x44;
	id->nn = NVME_NAMESPACE_MAX;
	id->oncs = NVME_CTRL_ONCS_COMPARE | NVME_CTRL_ONCS_DSM | NVME_CTRL_ONCS_WRITE_ZEROES |
		   NVME_CTRL_ONCS_VERIFY | NVME_CTRL_ONCS_COPY | NVME_CTRL_ONCS_RESERVATIONS;
	id->fna = 1 << 3; /* Format is of one namespace at a time */
	id->fuses = NVME_CTRL_FUSES_COMPARE_AND_WRITE;
	id->acwu = NVME_COMPARE_BLOCKS - 1;
	id->ocfs = 1;
	id->vwc = 0x7;                       /* there is one; Flush takes all namespaces at once */
	id->sgls = SGL_SUPPORTED | 1u << 18; /* an SGL may be longer than the data */
	id->mnan = NVME_NAMESPACE_MAX;
	snprintf(id->subnqn, sizeof(id->subnqn),
		 "nqn.2014-08.org.nvmexpress:uuid:53617273-656e-4e56-%04x-%012llx",
		 (unsigned)(options->subsystem_id >> 48),
		 (unsigned long long)(options->subsystem_id & UINT64_C(0xffffffffffff)));
	id->psd[0].mp = 1;
}

/* All types, kept for ever. */
static uint8_t identify_reservations(const struct nvme_ns *ns)
{
	return ns->options.reservations ? NVME_NS_RESCAP_PTPL | 0x7e | NVME_NS_RESCAP_IEK_13 : 0;
}

static void identify_namespace(const struct nvme_ns *ns, struct nvme_id_ns *id)
{
	uint32_t block_bytes = 1u << ns->shift;
	uint32_t preferred = MAX(ns->volume->physical_block_bytes, block_bytes) / block_bytes;

	id->nsze = id->ncap = id->nuse = ns->blocks;
	id->nsfeat = (ns->options.thin ? 1 : 0) | 1 << 4; /* NPWG and following are valid */
	id->nlbaf = LBA_FORMATS - 1;
	id->flbas = ns->shift == 12;
	id->nmic = ns->options.shared ? NVME_NS_NMIC_SHARED : 0;
	id->rescap = identify_reservations(ns);
	id->dlfeat = NVME_NS_DLFEAT_RB_ALL_0S | NVME_NS_DLFEAT_WRITE_ZEROES;
	put_le64(id->nvmcap, ns->blocks << ns->shift);
	id->npwg = id->npwa = id->npdg = id->npda = (uint16_t)(preferred - 1);
	id->mssrl = (uint16_t)(NVME_COPY_RANGE_BYTES / block_bytes);
	id->mcl = NVME_DATA_BYTES_MAX / block_bytes;
	id->msrc = NVME_COPY_RANGES - 1;
	id->nsattr = ns->options.read_only ? NVME_NS_NSATTR_WRITE_PROTECTED : 0;
	put_be64(id->nguid, ns->options.nguid[0]);
	put_be64(id->nguid + 8, ns->options.nguid[1]);
	put_be64(id->eui64, ns->options.eui64);
	if (ns->volume->block_bytes == 512) /* else it is not available */
		id->lbaf[0] = (struct nvme_lbaf){.ds = 9, .rp = NVME_LBAF_RP_BETTER};
	id->lbaf[1] = (struct nvme_lbaf){.ds = 12, .rp = NVME_LBAF_RP_BEST};
}

static void identify_independent(const struct nvme_ns *ns, struct nvme_id_independent_id_ns *id)
{
	id->nmic = ns->options.shared ? NVME_NS_NMIC_SHARED : 0;
	id->nsattr = ns->options.read_only ? NVME_NS_NSATTR_WRITE_PROTECTED : 0;
	id->rescap = identify_reservations(ns);
	id->nstat = 1; /* ready */
}

static void identify_limits(struct nvme_id_ctrl_nvm *id)
{
	id->vsl = 8;  /* Verify and Write Zeroes: as MDTS */
	id->wzsl = 0; /* no limit but the field's */
	id->dmrl = 255;
}

/* Descriptors of one namespace (5.15.2.3). */
static void identify_descriptors(const struct nvme_ns *ns, unsigned char *at)
{
	if (ns->options.eui64) {
		at[0] = NVME_NIDT_EUI64;
		at[1] = NVME_NIDT_EUI64_LEN;
		put_be64(at + 4, ns->options.eui64);
		at += 4 + NVME_NIDT_EUI64_LEN;
	}
	at[0] = NVME_NIDT_NGUID;
	at[1] = NVME_NIDT_NGUID_LEN;
	put_be64(at + 4, ns->options.nguid[0]);
	put_be64(at + 12, ns->options.nguid[1]);
	at += 4 + NVME_NIDT_NGUID_LEN;
	at[0] = NVME_NIDT_CSI; /* of value 0: the NVM command set */
	at[1] = NVME_NIDT_CSI_LEN;
}

/* Of those that are attached, or of all. */
static uint16_t identify_list(const struct nvme_controller *controller, uint32_t after, bool all,
			      struct nvme_ns_list *list)
{
	unsigned count = 0;

	if (after >= NVME_NSID_ALL - 1)
		return NVME_SC_INVALID_NS;
	for (uint32_t nsid = after + 1; nsid <= NVME_NAMESPACE_MAX && nsid > after; nsid++)
		if (all ? nvme_namespace_allocated(controller, nsid)
			: nvme_namespace_get(controller, nsid))
			list->ns[count++] = nsid;
	return 0;
}

static void identify_controllers(const struct nvme_controller *controller, uint16_t from,
				 struct nvme_ctrl_list *list)
{
	if (controller->options.controller_id < from)
		return;
	list->num = 1;
	list->identifier[0] = controller->options.controller_id;
}

/* Structures of a namespace; those of one that is not attached are zeros (5.15.2.1). */
static uint16_t identify_of_namespace(struct nvme_command *command, uint8_t cns,
				      union identify_answer *answer)
{
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	const struct nvme_ns *ns =
		cns == NVME_IDENTIFY_CNS_ALLOCATED_NS
			? nvme_namespace_allocated(command->controller, sqe->nsid)
			: nvme_namespace_get(command->controller, sqe->nsid);

	if (sqe->nsid == NVME_NSID_ALL && cns == NVME_IDENTIFY_CNS_NS) {
		/* What all namespaces have in common: the formats. */
		answer->ns.nlbaf = LBA_FORMATS - 1;
		answer->ns.lbaf[0].ds = 9;
		answer->ns.lbaf[1].ds = 12;
		return 0;
	}
	if (sqe->nsid == 0 || sqe->nsid > NVME_NAMESPACE_MAX)
		return NVME_SC_INVALID_NS;
	if (!ns)
		return cns == NVME_IDENTIFY_CNS_NS_DESC_LIST ? NVME_SC_INVALID_NS : 0;
	if (cns == NVME_IDENTIFY_CNS_NS_DESC_LIST)
		identify_descriptors(ns, answer->bytes);
	else if (cns == NVME_IDENTIFY_CNS_CSI_INDEPENDENT_ID_NS)
		identify_independent(ns, &answer->independent);
	else if (cns != NVME_IDENTIFY_CNS_CSI_NS) /* which has nothing that we use */
		identify_namespace(ns, &answer->ns);
	return 0;
}

static uint16_t identify_fill(struct nvme_command *command, union identify_answer *answer)
{
	const struct nvme_controller *controller = command->controller;
	const struct nvme_sqe *sqe = nvme_sqe_of(command);
	uint8_t cns = (uint8_t)sqe->cdw10, csi = (uint8_t)(sqe->cdw11 >> 24);

	switch (cns) {
	case NVME_IDENTIFY_CNS_CTRL:
		identify_controller(controller, &answer->controller);
		return 0;
	case NVME_IDENTIFY_CNS_NS_ACTIVE_LIST:
	case NVME_IDENTIFY_CNS_ALLOCATED_NS_LIST:
		return identify_list(controller, sqe->nsid,
				     cns == NVME_IDENTIFY_CNS_ALLOCATED_NS_LIST, &answer->list);
	case NVME_IDENTIFY_CNS_CSI_NS_ACTIVE_LIST:
	case NVME_IDENTIFY_CNS_CSI_ALLOCATED_NS_LIST:
		return csi ? NVME_SC_INVALID_FIELD
			   : identify_list(controller, sqe->nsid,
					   cns == NVME_IDENTIFY_CNS_CSI_ALLOCATED_NS_LIST,
					   &answer->list);
	case NVME_IDENTIFY_CNS_CSI_CTRL:
		if (csi)
			return NVME_SC_INVALID_FIELD;
		identify_limits(&answer->limits);
		return 0;
	case NVME_IDENTIFY_CNS_CSI_NS:
		if (csi)
			return NVME_SC_INVALID_FIELD;
		return identify_of_namespace(command, cns, answer);
	case NVME_IDENTIFY_CNS_NS:
	case NVME_IDENTIFY_CNS_NS_DESC_LIST:
	case NVME_IDENTIFY_CNS_CSI_INDEPENDENT_ID_NS:
	case NVME_IDENTIFY_CNS_ALLOCATED_NS:
		return identify_of_namespace(command, cns, answer);
	case NVME_IDENTIFY_CNS_NS_CTRL_LIST:
		if (!nvme_namespace_allocated(controller, sqe->nsid))
			return NVME_SC_INVALID_FIELD;
		if (!nvme_namespace_get(controller, sqe->nsid))
			return 0; /* attached to none */
		identify_controllers(controller, (uint16_t)(sqe->cdw10 >> 16),
				     &answer->controllers);
		return 0;
	case NVME_IDENTIFY_CNS_CTRL_LIST:
		identify_controllers(controller, (uint16_t)(sqe->cdw10 >> 16),
				     &answer->controllers);
		return 0;
	case NVME_IDENTIFY_CNS_COMMAND_SET_STRUCTURE:
		answer->bytes[0] = 1; /* combination 0: the NVM command set */
		return 0;
	default:
		return NVME_SC_INVALID_FIELD;
	}
}

void nvme_identify(struct nvme_command *command)
{
	union identify_answer answer = {0};
	uint16_t status = identify_fill(command, &answer);

	if (status)
		nvme_command_end(command, status | NVME_STATUS_DNR);
	else
		(void)nvme_command_answer(command, &answer, sizeof(answer), sizeof(answer));
}
