// SPDX-License-Identifier: GPL-2.0
/*
 * What scripts/facade/facade.rs calls and a kernel with the C half only has no
 * bindings of: the functions of linux/pci-tph.h, and helpers of the series.
 */

#include <linux/dma-resv.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>

#define __rust_helper

#include "../../rust/helpers/pci-tph.c"

__rust_helper int
rust_helper_dma_resv_lock_interruptible(struct dma_resv *obj,
					struct ww_acquire_ctx *ctx)
{
	return dma_resv_lock_interruptible(obj, ctx);
}
