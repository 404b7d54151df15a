/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The TPH requester that user space owns with a VFIO PCI device.
 */
#ifndef LINUX_VFIO_PCI_TPH_H
#define LINUX_VFIO_PCI_TPH_H

#include <linux/types.h>

/* How much of it user space gets, each level with all of those below */
enum vfio_pci_tph_policy {
	VFIO_PCI_TPH_NO_ST,	/* processing hints */
	VFIO_PCI_TPH_IV_ST,	/* steering tags that the kernel writes */
	VFIO_PCI_TPH_DS_ST,	/* steering tags that it knows */
	VFIO_PCI_TPH_LITERAL,	/* steering tags of its choice */
};

/**
 * struct vfio_pci_tph - State of a TPH requester
 *
 * All but @policy is zero while nobody has the device open, or if the
 * capability is hidden. All but @opted_in and @control is set up when it is
 * opened.
 *
 * @policy:	enum vfio_pci_tph_policy; set by the driver before the device is
 *		registered
 * @opted_in:	VFIO_DEVICE_FEATURE_TPH was set
 * @shows_table: the ST table can be read in config space
 * @pos:	offset of the capability that user space sees in config space
 * @len:	its length
 * @capability:	the capability register that user space sees
 * @control:	the control register that user space sees; changed under
 *		memory_lock
 */
struct vfio_pci_tph {
	u8 policy;
	bool opted_in;
	bool shows_table;
	u16 pos;
	u16 len;
	u32 capability;
	u32 control;
};

#endif
