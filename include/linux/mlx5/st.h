/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * PCIe steering tags (ST): what an mkey refers to is an index, of an entry of
 * the device's ST table that holds a tag. A device without a table is in direct
 * mode, where the tag itself is the index.
 */
#ifndef MLX5_ST_H
#define MLX5_ST_H

#include <linux/errno.h>
#include <linux/pci-tph.h>
#include <linux/types.h>

struct mlx5_core_dev;

#ifdef CONFIG_PCIE_TPH
int mlx5_st_alloc_index(struct mlx5_core_dev *dev, enum tph_mem_type mem_type,
			unsigned int cpu_uid, u16 *st_index);
int mlx5_st_dealloc_index(struct mlx5_core_dev *dev, u16 st_index);
#else
static inline int mlx5_st_alloc_index(struct mlx5_core_dev *dev,
				      enum tph_mem_type mem_type,
				      unsigned int cpu_uid, u16 *st_index)
{
	return -EOPNOTSUPP;
}

static inline int mlx5_st_dealloc_index(struct mlx5_core_dev *dev, u16 st_index)
{
	return -EOPNOTSUPP;
}
#endif

#ifdef CONFIG_MLX5_DMABUF_TPH
int mlx5_st_alloc_index_by_tag(struct mlx5_core_dev *dev, u16 tag,
			       u16 *st_index);
int mlx5_st_get_index(struct mlx5_core_dev *dev, u16 st_index);
int mlx5_st_retag_index(struct mlx5_core_dev *dev, u16 st_index, u16 tag);
#endif

#endif
