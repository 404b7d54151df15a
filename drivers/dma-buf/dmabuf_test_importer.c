// SPDX-License-Identifier: GPL-2.0-only
/*
 * An importer that cannot be told that the memory goes away.
 *
 * Some exporters must refuse it. Loading this module attaches a PCI device to a
 * DMA-buf of the loading process, without &dma_buf_attach_ops.invalidate_mappings,
 * and fails as the attachment does:
 *
 *	insmod dmabuf_test_importer.ko device=0000:00:10.0 fd=3
 */

#include <linux/dma-buf.h>
#include <linux/module.h>
#include <linux/pci.h>

static char *device;
module_param(device, charp, 0);
MODULE_PARM_DESC(device, "PCI device to attach, as DOMAIN:BUS:DEVICE.FUNCTION");

static int fd = -1;
module_param(fd, int, 0);
MODULE_PARM_DESC(fd, "file descriptor of a DMA-buf in the loading process");

static const struct dma_buf_attach_ops attach_ops = {
	.allow_peer2peer = true,
};

static struct pci_dev *find_device(void)
{
	unsigned int domain, bus, dev, func;

	if (!device ||
	    sscanf(device, "%x:%x:%x.%x", &domain, &bus, &dev, &func) != 4)
		return NULL;

	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(dev, func));
}

static int __init test_importer_init(void)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;
	struct pci_dev *pdev;
	int ret = 0;

	pdev = find_device();
	if (!pdev)
		return -ENODEV;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto put_device;
	}

	attach = dma_buf_dynamic_attach(dmabuf, &pdev->dev, &attach_ops, NULL);
	if (IS_ERR(attach))
		ret = PTR_ERR(attach);
	else
		dma_buf_detach(dmabuf, attach);

	dma_buf_put(dmabuf);
put_device:
	pci_dev_put(pdev);
	return ret;
}

static void __exit test_importer_exit(void)
{
}

module_init(test_importer_init);
module_exit(test_importer_exit);

MODULE_DESCRIPTION("DMA-buf importer without invalidate_mappings");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
