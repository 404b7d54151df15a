/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TPH requesters of user space: what C and Rust call of each other.
 */
#ifndef VFIO_PCI_REQUESTER_H
#define VFIO_PCI_REQUESTER_H

#include <linux/errno.h>
#include <linux/types.h>
#include <linux/vfio_pci_tph.h>
#include <uapi/linux/vfio.h>

struct pci_dev;
struct vfio_pci_core_device;

/* vfio_pci_core.c */
int vfio_pci_tph_lock(struct vfio_pci_core_device *vdev);
void vfio_pci_tph_unlock(struct vfio_pci_core_device *vdev);

/* vfio_pci_requester.rs */
#ifdef CONFIG_VFIO_PCI_TPH
bool vfio_pci_tph_show(struct vfio_pci_tph *tph, struct pci_dev *pdev, u16 pos,
		       u16 len);
void vfio_pci_tph_forget(struct vfio_pci_tph *tph, struct pci_dev *pdev);
void vfio_pci_tph_off(struct vfio_pci_tph *tph, struct pci_dev *pdev);
void vfio_pci_tph_write(struct vfio_pci_core_device *vdev,
			struct vfio_pci_tph *tph, struct pci_dev *pdev,
			u32 offset, u32 count, u32 val);
int vfio_pci_core_feature_tph(struct vfio_pci_tph *tph, u32 flags,
			      size_t argsz);
int vfio_pci_core_feature_tph_resolve(struct vfio_pci_tph *tph,
				      struct pci_dev *pdev, u32 flags,
				      struct vfio_device_feature_tph_resolve __user *arg,
				      size_t argsz);
int vfio_pci_core_feature_tph_st(struct vfio_pci_core_device *vdev,
				 struct vfio_pci_tph *tph,
				 struct pci_dev *pdev, u32 flags,
				 struct vfio_device_feature_tph_st __user *arg,
				 size_t argsz);
#else
static inline bool vfio_pci_tph_show(struct vfio_pci_tph *tph,
				     struct pci_dev *pdev, u16 pos, u16 len)
{
	return true;
}

static inline void vfio_pci_tph_forget(struct vfio_pci_tph *tph,
				       struct pci_dev *pdev)
{
}

static inline void vfio_pci_tph_off(struct vfio_pci_tph *tph,
				    struct pci_dev *pdev)
{
}

static inline void vfio_pci_tph_write(struct vfio_pci_core_device *vdev,
				      struct vfio_pci_tph *tph,
				      struct pci_dev *pdev, u32 offset,
				      u32 count, u32 val)
{
}

static inline int vfio_pci_core_feature_tph(struct vfio_pci_tph *tph, u32 flags,
					    size_t argsz)
{
	return -ENOTTY;
}

static inline int
vfio_pci_core_feature_tph_resolve(struct vfio_pci_tph *tph,
				  struct pci_dev *pdev, u32 flags,
				  struct vfio_device_feature_tph_resolve __user *arg,
				  size_t argsz)
{
	return -ENOTTY;
}

static inline int
vfio_pci_core_feature_tph_st(struct vfio_pci_core_device *vdev,
			     struct vfio_pci_tph *tph, struct pci_dev *pdev,
			     u32 flags,
			     struct vfio_device_feature_tph_st __user *arg,
			     size_t argsz)
{
	return -ENOTTY;
}
#endif

#endif
