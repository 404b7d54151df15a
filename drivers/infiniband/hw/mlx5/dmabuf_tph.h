/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * PCIe steering tags of memory regions: what C calls of dmabuf_tph.rs.
 */
#ifndef _MLX5_IB_DMABUF_TPH_H
#define _MLX5_IB_DMABUF_TPH_H

#include <linux/types.h>

struct dma_buf;
struct mlx5_core_dev;
struct pci_dev;

#ifdef CONFIG_MLX5_DMABUF_TPH
void mlx5_ib_dmabuf_tph_ask(struct mlx5_core_dev *mdev, struct pci_dev *pdev,
			    struct dma_buf *dmabuf, u16 *st_index, u8 *ph);
int mlx5_ib_dmabuf_tph_renew(struct mlx5_core_dev *mdev, struct pci_dev *pdev,
			     struct dma_buf *dmabuf, u16 st_index, u8 ph);
int mlx5_ib_st_get(struct mlx5_core_dev *mdev, u16 st_index);
void mlx5_ib_st_put(struct mlx5_core_dev *mdev, u16 st_index);
#else
static inline void mlx5_ib_dmabuf_tph_ask(struct mlx5_core_dev *mdev,
					  struct pci_dev *pdev,
					  struct dma_buf *dmabuf,
					  u16 *st_index, u8 *ph)
{
}

static inline int mlx5_ib_dmabuf_tph_renew(struct mlx5_core_dev *mdev,
					   struct pci_dev *pdev,
					   struct dma_buf *dmabuf,
					   u16 st_index, u8 ph)
{
	return 0;
}

static inline int mlx5_ib_st_get(struct mlx5_core_dev *mdev, u16 st_index)
{
	return 0;
}

static inline void mlx5_ib_st_put(struct mlx5_core_dev *mdev, u16 st_index)
{
}
#endif

#endif
