/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest sees of the PCI function: its configuration space and BAR0 (registers, doorbells,
 * MSI-X table and pending bits). QEMU keeps BAR addresses and the MSI-X table itself; what is
 * written there is stored and read back.
 */
#include "keeper/keeper_priv.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/macros.h"

#define VENDOR_ID   0x1d1du
#define DEVICE_ID   0x5a25u
#define CLASS_NVME  0x010802u
#define CAP_POWER   0x40u
#define CAP_MSIX    0x50u
#define CAP_EXPRESS 0x60u
#define BAR_BYTES   VFU_BAR0_BYTES

enum { /* NVMe 1.4, 3.1 */
       REG_CAP = 0x00,
       REG_VS = 0x08,
       REG_INTMS = 0x0c,
       REG_INTMC = 0x10,
       REG_CC = 0x14,
       REG_CSTS = 0x1c,
       REG_NSSR = 0x20,
       REG_AQA = 0x24,
       REG_ASQ = 0x28,
       REG_ACQ = 0x30,
};

static void put_word(struct keeper *keeper, unsigned at, uint16_t value, uint16_t writable)
{
	put_le16(keeper->shared->pci_config + at, value);
	put_le16(keeper->writable + at, writable);
}

static void init_config(struct keeper *keeper)
{
	unsigned char *config = keeper->shared->pci_config;

	put_word(keeper, PCI_VENDOR_ID, VENDOR_ID, 0);
	put_word(keeper, PCI_DEVICE_ID, DEVICE_ID, 0);
	put_word(keeper, PCI_COMMAND, 0, 0x0546);
	put_word(keeper, PCI_STATUS, PCI_STATUS_CAP_LIST, 0);
	put_le32(config + PCI_CLASS_REVISION, CLASS_NVME << 8 | 1);
	put_word(keeper, PCI_CACHE_LINE_SIZE, 0, 0xff);
	put_le32(config + PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_TYPE_64);
	put_le32(keeper->writable + PCI_BASE_ADDRESS_0, ~(BAR_BYTES - 1));
	put_le32(keeper->writable + PCI_BASE_ADDRESS_1, ~UINT32_C(0));
	put_word(keeper, PCI_SUBSYSTEM_VENDOR_ID, VENDOR_ID, 0);
	put_word(keeper, PCI_SUBSYSTEM_ID, DEVICE_ID, 0);
	config[PCI_CAPABILITY_LIST] = CAP_POWER;
	put_word(keeper, PCI_INTERRUPT_LINE, 0x0100, 0xff); /* INTA# */

	put_word(keeper, CAP_POWER, CAP_MSIX << 8 | PCI_CAP_ID_PM, 0);
	put_word(keeper, CAP_POWER + PCI_PM_PMC, 3, 0);
	put_word(keeper, CAP_POWER + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET, 3);
	put_word(keeper, CAP_MSIX, CAP_EXPRESS << 8 | PCI_CAP_ID_MSIX, 0);
	put_word(keeper, CAP_MSIX + PCI_MSIX_FLAGS, (uint16_t)(keeper->vectors - 1),
		 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	put_le32(config + CAP_MSIX + PCI_MSIX_TABLE, 2 * VFU_PAGE_BYTES);
	put_le32(config + CAP_MSIX + PCI_MSIX_PBA, 3 * VFU_PAGE_BYTES);
	put_word(keeper, CAP_EXPRESS, PCI_CAP_ID_EXP, 0);
	put_word(keeper, CAP_EXPRESS + PCI_EXP_FLAGS, 2, 0); /* version 2, an endpoint */
	put_le32(config + CAP_EXPRESS + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
	put_word(keeper, CAP_EXPRESS + PCI_EXP_DEVCTL, 0x2810, 0x7fff);
	put_le32(config + CAP_EXPRESS + PCI_EXP_LNKCAP, 1 << 4 | 1);
	put_word(keeper, CAP_EXPRESS + PCI_EXP_LNKSTA, 1 << 4 | 1, 0);
}

void device_init(struct keeper *keeper)
{
	struct vfu_registers *registers = &keeper->shared->registers;
	unsigned queues = keeper->options.queues;

	keeper->vectors = queues && queues < VFU_VECTOR_COUNT ? queues + 1 : VFU_VECTOR_COUNT;
	init_config(keeper);
	/* MQES, CQR, TO 127.5 s, DSTRD 0, NVM commands, pages of 4 KiB */
	registers->cap = (VFU_QUEUE_DEPTH - 1) | 1u << 16 | 0xffu << 24 | UINT64_C(1) << 37;
	registers->vs = 0x00010400;
}

void device_resume(struct keeper *keeper)
{
	uint16_t flags = get_le16(keeper->shared->pci_config + CAP_MSIX + PCI_MSIX_FLAGS);

	keeper->vectors = MIN((flags & PCI_MSIX_FLAGS_QSIZE) + 1u, VFU_VECTOR_COUNT);
}

/* A reset of the function: what the guest may write is as in the beginning. */
static void reset_config(struct keeper *keeper)
{
	memset(keeper->shared->pci_config, 0, VFU_PAGE_BYTES);
	init_config(keeper);
}

void device_reset(struct keeper *keeper)
{
	struct vfu_registers *registers = &keeper->shared->registers;

	reset_config(keeper);
	registers->aqa = 0;
	registers->asq = registers->acq = 0;
	vfu_store(&registers->intm, 0);
	vfu_store(&registers->cc, 0);
	vfu_store(&registers->reset_count, registers->reset_count + 1);
	keeper->shared->counters.resets++;
	engine_wake(keeper);
}

/* --- configuration space --- */

/* True for a function-level reset. */
static bool write_config(struct keeper *keeper, unsigned at, const unsigned char *data,
			 unsigned count)
{
	unsigned char *config = keeper->shared->pci_config;

	for (unsigned i = 0; i < count; i++) {
		unsigned char mask = keeper->writable[at + i];

		config[at + i] = (unsigned char)((config[at + i] & ~mask) | (data[i] & mask));
	}
	/* Function-level reset: bit 15 of Device Control reads as 0 (PCI Express, 7.5.3.4). */
	at = at <= CAP_EXPRESS + PCI_EXP_DEVCTL + 1 ? CAP_EXPRESS + PCI_EXP_DEVCTL + 1 - at : count;
	if (at >= count || !(data[at] & PCI_EXP_DEVCTL_BCR_FLR >> 8))
		return false;
	device_reset(keeper);
	return true;
}

/* --- registers --- */

static void read_registers(const struct keeper *keeper, unsigned char *page)
{
	const struct vfu_registers *registers = &keeper->shared->registers;

	memset(page, 0, 64);
	put_le64(page + REG_CAP, registers->cap);
	put_le32(page + REG_VS, registers->vs);
	put_le32(page + REG_INTMS, registers->intm);
	put_le32(page + REG_INTMC, registers->intm);
	put_le32(page + REG_CC, registers->cc);
	put_le32(page + REG_CSTS, vfu_load(&registers->csts));
	put_le32(page + REG_AQA, registers->aqa);
	put_le64(page + REG_ASQ, registers->asq);
	put_le64(page + REG_ACQ, registers->acq);
}

static void write_cc(struct keeper *keeper, uint32_t value)
{
	struct vfu_registers *registers = &keeper->shared->registers;

	bool falls = registers->cc & 1 && !(value & 1);

	vfu_store(&registers->cc, value);
	if (falls)
		vfu_store(&registers->disable_count, registers->disable_count + 1);
	engine_wake(keeper);
}

/* Half of a 64-bit register, or all of it. */
static void write_wide(uint64_t *reg, unsigned half, const unsigned char *data, unsigned count)
{
	if (count == 8)
		*reg = get_le64(data);
	else if (half)
		*reg = (*reg & UINT32_MAX) | (uint64_t)get_le32(data) << 32;
	else
		*reg = (*reg & ~(uint64_t)UINT32_MAX) | get_le32(data);
	*reg &= ~(uint64_t)(VFU_PAGE_BYTES - 1);
}

static void write_register(struct keeper *keeper, unsigned at, const unsigned char *data,
			   unsigned count)
{
	struct vfu_registers *registers = &keeper->shared->registers;

	switch (at) {
	case REG_INTMS:
		vfu_store(&registers->intm, registers->intm | get_le32(data));
		engine_wake(keeper);
		break;
	case REG_INTMC:
		vfu_store(&registers->intm, registers->intm & ~get_le32(data));
		engine_wake(keeper);
		break;
	case REG_CC:
		write_cc(keeper, get_le32(data));
		break;
	case REG_AQA:
		registers->aqa = get_le32(data) & 0x0fff0fff;
		break;
	case REG_ASQ:
	case REG_ASQ + 4:
		write_wide(&registers->asq, at - REG_ASQ, data, count);
		break;
	case REG_ACQ:
	case REG_ACQ + 4:
		write_wide(&registers->acq, at - REG_ACQ, data, count);
		break;
	default: /* read-only, or not there: NVMe 1.4, 3.1: ignored */
		break;
	}
}

static void write_doorbell(struct keeper *keeper, unsigned at, uint32_t value)
{
	uint32_t *doorbell = (uint32_t *)(void *)((char *)keeper->doorbells + at);

	vfu_store(doorbell, value);
	keeper->shared->counters.doorbell_traps++;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* against the engine that falls asleep (rule 8) */
	if (vfu_load(&keeper->shared->engine_asleep))
		engine_wake(keeper);
}

/* Registers are 4 or 8 bytes wide and aligned; a wrong access is ignored, as by a real device. */
static void write_bar(struct keeper *keeper, unsigned at, const unsigned char *data, unsigned count)
{
	keeper->shared->counters.traps++;
	if (at >= 2 * VFU_PAGE_BYTES || (count != 4 && count != 8) || at % 4 != 0)
		return;
	if (at < VFU_PAGE_BYTES)
		write_register(keeper, at, data, count);
	else if (count == 4)
		write_doorbell(keeper, at - VFU_PAGE_BYTES, get_le32(data));
}

/* --- regions --- */

static uint64_t region_size(uint32_t region)
{
	return region == 0 ? BAR_BYTES : region == KEEPER_CONFIG ? VFU_PAGE_BYTES : 0;
}

static int check_access(const struct vfu_region_access *access)
{
	uint64_t size = access->region < KEEPER_REGIONS ? region_size(access->region) : 0;

	return access->count == 0 || access->count > VFU_MESSAGE_DATA_MAX ||
			       access->offset >= size || access->count > size - access->offset
		       ? -EINVAL
		       : 0;
}

int device_read(struct keeper *keeper, const struct vfu_region_access *access, void *data)
{
	unsigned char page[VFU_PAGE_BYTES] = {0};
	int r = check_access(access);

	if (r < 0)
		return r;
	memset(data, 0, access->count);
	if (access->region == KEEPER_CONFIG) {
		memcpy(data, keeper->shared->pci_config + access->offset, access->count);
		return 0;
	}
	keeper->shared->counters.traps++;
	/* Doorbells, the MSI-X table and pending bits read as zeros. */
	if (access->offset >= VFU_PAGE_BYTES)
		return 0;
	read_registers(keeper, page);
	memcpy(data, page + access->offset, MIN(access->count, VFU_PAGE_BYTES - access->offset));
	return 0;
}

int device_write(struct keeper *keeper, const struct vfu_region_access *access, const void *data)
{
	int r = check_access(access);

	if (r < 0)
		return r;
	if (access->region == KEEPER_CONFIG)
		return write_config(keeper, (unsigned)access->offset, data, access->count);
	write_bar(keeper, (unsigned)access->offset, data, access->count);
	return 0;
}

/* --- interrupts --- */

static void set_fd(int *fd, int value)
{
	if (*fd >= 0)
		close(*fd);
	*fd = value;
}

static void drop_msix(struct keeper *keeper)
{
	for (unsigned i = 0; i < VFU_VECTOR_COUNT; i++)
		set_fd(&keeper->msix_fds[i], -1);
	vfu_store(&keeper->shared->msix_enabled, 0);
	engine_send_irqs(keeper, VFU_IRQ_MSIX, 0, 0);
}

void device_drop_irqs(struct keeper *keeper)
{
	set_fd(&keeper->intx_fd, -1);
	engine_send_irqs(keeper, VFU_IRQ_INTX, 0, 0);
	drop_msix(keeper);
}

/* Descriptors for `count` vectors, or none for any of them. */
static void set_events(struct keeper *keeper, const struct vfu_irq_set *set)
{
	struct vfu_receiver *receiver = &keeper->client_receiver;
	int *fds = set->index == VFU_IRQ_MSIX ? keeper->msix_fds : &keeper->intx_fd;

	for (uint32_t i = 0; i < set->count; i++)
		set_fd(&fds[set->start + i],
		       receiver->fd_count ? vfu_receiver_take_fd(receiver, i) : -1);
	if (set->index == VFU_IRQ_MSIX)
		vfu_store(&keeper->shared->msix_enabled, 1);
	for (uint32_t i = 0; i < set->count; i += VFU_LINK_FDS_MAX)
		engine_send_irqs(keeper, set->index, set->start + i,
				 MIN(set->count - i, (uint32_t)VFU_LINK_FDS_MAX));
}

static int check_irqs(const struct keeper *keeper, const struct vfu_irq_set *set)
{
	uint32_t vectors = set->index == VFU_IRQ_MSIX ? keeper->vectors : 1;
	unsigned fd_count = keeper->client_receiver.fd_count;
	struct stat status;

	if (set->index != VFU_IRQ_MSIX && set->index != VFU_IRQ_INTX)
		return -EINVAL;
	if (set->start >= vectors || set->count > vectors - set->start)
		return -EINVAL;
	if (fd_count > 0 && (!(set->flags & VFIO_IRQ_SET_DATA_EVENTFD) || fd_count != set->count))
		return -EINVAL;
	/* An event is a file of no type. The engine refuses others: to write there could block. */
	for (unsigned i = 0; i < fd_count; i++)
		if (fstat(keeper->client_receiver.fds[i], &status) < 0 ||
		    (status.st_mode & S_IFMT) != 0)
			return -EINVAL;
	return 0;
}

void device_set_irqs(struct keeper *keeper, const struct vfu_header *header,
		     const struct vfu_irq_set *set)
{
	int r = check_irqs(keeper, set);

	if (r < 0) {
		client_refuse(keeper, header, r);
		return;
	}
	/* Masking is QEMU's own business: it keeps the MSI-X table, and INTx is signalled anew. */
	if (set->flags & VFIO_IRQ_SET_ACTION_UNMASK && set->index == VFU_IRQ_INTX)
		engine_wake(keeper);
	if (set->flags & VFIO_IRQ_SET_ACTION_TRIGGER) {
		if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
			set_events(keeper, set);
		} else if (set->flags & VFIO_IRQ_SET_DATA_NONE && set->count == 0) {
			if (set->index == VFU_IRQ_MSIX) {
				drop_msix(keeper);
			} else {
				set_fd(&keeper->intx_fd, -1);
				engine_send_irqs(keeper, VFU_IRQ_INTX, 0, 0);
			}
		}
	}
	client_reply(keeper, header, NULL, 0, NULL, 0);
}
