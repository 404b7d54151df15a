/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PCIe steering tags on exported dma-bufs: what C and Rust call of each other.
 */
#ifndef VFIO_PCI_TPH_H
#define VFIO_PCI_TPH_H

#include <linux/errno.h>
#include <linux/types.h>
#include <uapi/linux/vfio.h>

struct dma_buf;
struct pci_dev;
struct vfio_pci_core_device;

/* vfio_pci_dmabuf.c */
struct vfio_device_feature_dma_buf_tph *
vfio_pci_dma_buf_tph(struct dma_buf *dmabuf, struct vfio_pci_core_device *vdev);

/* vfio_pci_tph.rs */
#ifdef CONFIG_VFIO_PCI_DMABUF_TPH
int vfio_pci_core_feature_dma_buf_tph(struct vfio_pci_core_device *vdev,
				      struct pci_dev *pdev, u32 flags,
				      struct vfio_device_feature_dma_buf_tph __user *arg,
				      size_t argsz);
int vfio_pci_tph_hint(const struct vfio_device_feature_dma_buf_tph *tph,
		      bool extended, u16 *steering_tag, u8 *ph);
#else
static inline int
vfio_pci_core_feature_dma_buf_tph(struct vfio_pci_core_device *vdev,
				  struct pci_dev *pdev, u32 flags,
				  struct vfio_device_feature_dma_buf_tph __user *arg,
				  size_t argsz)
{
	return -ENOTTY;
}

static inline int
vfio_pci_tph_hint(const struct vfio_device_feature_dma_buf_tph *tph,
		  bool extended, u16 *steering_tag, u8 *ph)
{
	return -EOPNOTSUPP;
}
#endif

#endif
