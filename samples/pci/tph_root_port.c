// SPDX-License-Identifier: GPL-2.0
/*
 * Root ports that are TPH completers, for virtual machines.
 *
 * The PCI core enables steering tags of a device behind a root port only if the
 * root port completes such requests, which Device Capabilities 2 says. Emulated
 * root ports do not say so, although what is behind them may well do. This
 * module answers in their place: whoever reads that register of a root port
 * sees the TPH Completer Supported field as the parameter "completer" has it.
 *
 * Load it before the driver that enables steering tags.
 */

#include <linux/align.h>
#include <linux/bitfield.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

static uint completer = PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH;
module_param(completer, uint, 0444);
MODULE_PARM_DESC(completer, "TPH Completer Supported: 0 none, 1 TPH, 2 reserved, 3 TPH and Extended TPH (default)");

struct root_port {
	struct list_head list;
	struct pci_bus *bus;
	unsigned int devfn;
	int devcap2;
};

/* Constant while our accessors are in place. */
static LIST_HEAD(ports);
static struct pci_ops *real;

static int read_config(struct pci_bus *bus, unsigned int devfn, int where,
		       int size, u32 *val)
{
	struct root_port *port;
	int ret;

	ret = real->read(bus, devfn, where, size, val);
	if (ret)
		return ret;

	list_for_each_entry(port, &ports, list) {
		u32 accessed = GENMASK(8 * size - 1, 0);
		int shift = 8 * (where - port->devcap2);

		/* Accesses are aligned, so none reaches beyond the register. */
		if (port->bus != bus || port->devfn != devfn ||
		    ALIGN_DOWN(where, sizeof(u32)) != port->devcap2)
			continue;

		*val &= ~(PCI_EXP_DEVCAP2_TPH_COMP_MASK >> shift);
		*val |= FIELD_PREP(PCI_EXP_DEVCAP2_TPH_COMP_MASK, completer) >>
			shift & accessed;
	}

	return 0;
}

static int write_config(struct pci_bus *bus, unsigned int devfn, int where,
			int size, u32 val)
{
	return real->write(bus, devfn, where, size, val);
}

static struct pci_ops ops = {
	.read = read_config,
	.write = write_config,
};

/* A bus that was added while our accessors were in place has inherited them. */
static void restore_ops(struct pci_bus *bus)
{
	struct pci_bus *child;

	list_for_each_entry(child, &bus->children, node)
		restore_ops(child);

	if (bus->ops == &ops)
		pci_bus_set_ops(bus, real);
}

static void remove_ports(void)
{
	struct root_port *port, *next;
	struct pci_bus *bus = NULL;

	while ((bus = pci_find_next_bus(bus)))
		restore_ops(bus);

	list_for_each_entry_safe(port, next, &ports, list)
		kfree(port);
}

static int add_ports(void)
{
	struct pci_dev *pdev = NULL;
	struct pci_bus *bus = NULL;

	for_each_pci_dev(pdev) {
		struct root_port *port;

		if (!pci_is_pcie(pdev) ||
		    pci_pcie_type(pdev) != PCI_EXP_TYPE_ROOT_PORT)
			continue;

		/* All host bridges of a virtual machine have the same. */
		if (real && real != pdev->bus->ops) {
			pci_err(pdev, "has other config accessors than the first root port\n");
			pci_dev_put(pdev);
			return -EBUSY;
		}
		real = pdev->bus->ops;

		port = kzalloc_obj(*port);
		if (!port) {
			pci_dev_put(pdev);
			return -ENOMEM;
		}
		port->bus = pdev->bus;
		port->devfn = pdev->devfn;
		port->devcap2 = pci_pcie_cap(pdev) + PCI_EXP_DEVCAP2;
		list_add_tail(&port->list, &ports);
		pci_info(pdev, "TPH completer type reads as %u now\n", completer);
	}

	if (!real)
		return -ENODEV;

	ops.add_bus = real->add_bus;
	ops.remove_bus = real->remove_bus;
	ops.map_bus = real->map_bus;
	while ((bus = pci_find_next_bus(bus)))
		if (bus->ops == real)
			pci_bus_set_ops(bus, &ops);

	return 0;
}

static int __init tph_root_port_init(void)
{
	int ret;

	if (completer > FIELD_MAX(PCI_EXP_DEVCAP2_TPH_COMP_MASK)) {
		pr_err("tph_root_port: completer=%u: must be 0 to 3\n", completer);
		return -EINVAL;
	}

	pci_lock_rescan_remove();
	ret = add_ports();
	if (ret)
		remove_ports();
	pci_unlock_rescan_remove();

	return ret;
}

static void __exit tph_root_port_exit(void)
{
	pci_lock_rescan_remove();
	remove_ports();
	pci_unlock_rescan_remove();
}

module_init(tph_root_port_init);
module_exit(tph_root_port_exit);

MODULE_AUTHOR("rust-tph");
MODULE_DESCRIPTION("Root ports of a virtual machine as TPH completers");
MODULE_LICENSE("GPL");
