// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What steering_tags.rs cannot do: look into struct mlx5_core_dev, export.
 */

#include <linux/mlx5/device.h>
#include <linux/mlx5/driver.h>

#include "mlx5_core.h"
#include "lib/mlx5.h"
#include "lib/steering_tags.h"

struct mlx5_st *mlx5_st_create(struct mlx5_core_dev *dev)
{
	if (!MLX5_CAP_GEN(dev, mkey_pcie_tph))
		return NULL;

#ifdef CONFIG_MLX5_SF
	if (mlx5_core_is_sf(dev))
		return dev->priv.parent_mdev->st;
#endif

	return mlx5_steering_tags_create(dev->pdev);
}

void mlx5_st_destroy(struct mlx5_core_dev *dev)
{
	/* Those of a sub-function are its parent's */
	if (mlx5_core_is_sf(dev) || !dev->st)
		return;

	WARN_ON_ONCE(!mlx5_steering_tags_destroy(dev->st));
}

int mlx5_st_alloc_index(struct mlx5_core_dev *dev, enum tph_mem_type mem_type,
			unsigned int cpu_uid, u16 *st_index)
{
	return mlx5_steering_tags_alloc_cpu(dev->st, mem_type, cpu_uid,
					    st_index);
}
EXPORT_SYMBOL_GPL(mlx5_st_alloc_index);

int mlx5_st_alloc_index_by_tag(struct mlx5_core_dev *dev, u16 tag,
			       u16 *st_index)
{
	return mlx5_steering_tags_alloc(dev->st, tag, st_index);
}
EXPORT_SYMBOL_GPL(mlx5_st_alloc_index_by_tag);

int mlx5_st_get_index(struct mlx5_core_dev *dev, u16 st_index)
{
	int ret = mlx5_steering_tags_get(dev->st, st_index);

	WARN_ON_ONCE(ret == -EINVAL);
	return ret;
}
EXPORT_SYMBOL_GPL(mlx5_st_get_index);

int mlx5_st_dealloc_index(struct mlx5_core_dev *dev, u16 st_index)
{
	int ret = mlx5_steering_tags_put(dev->st, st_index);

	WARN_ON_ONCE(ret == -EINVAL);
	return ret;
}
EXPORT_SYMBOL_GPL(mlx5_st_dealloc_index);

int mlx5_st_retag_index(struct mlx5_core_dev *dev, u16 st_index, u16 tag)
{
	return mlx5_steering_tags_retag(dev->st, st_index, tag);
}
EXPORT_SYMBOL_GPL(mlx5_st_retag_index);
