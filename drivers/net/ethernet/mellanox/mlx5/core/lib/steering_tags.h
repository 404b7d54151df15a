/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The steering tags of a PCI function: what C calls of steering_tags.rs.
 *
 * A NULL for @st is a function that has none. All of them may sleep.
 */
#ifndef __MLX5_STEERING_TAGS_H__
#define __MLX5_STEERING_TAGS_H__

#include <linux/pci-tph.h>
#include <linux/types.h>

struct mlx5_st;
struct pci_dev;

struct mlx5_st *mlx5_steering_tags_create(struct pci_dev *pdev);
bool mlx5_steering_tags_destroy(struct mlx5_st *st);
int mlx5_steering_tags_alloc(struct mlx5_st *st, u16 tag, u16 *st_index);
int mlx5_steering_tags_alloc_cpu(struct mlx5_st *st,
				 enum tph_mem_type mem_type,
				 unsigned int cpu_uid, u16 *st_index);
int mlx5_steering_tags_get(struct mlx5_st *st, u16 st_index);
int mlx5_steering_tags_put(struct mlx5_st *st, u16 st_index);
int mlx5_steering_tags_retag(struct mlx5_st *st, u16 st_index, u16 tag);

#endif
