// SPDX-License-Identifier: GPL-2.0

#include <linux/pci.h>
#include <linux/pci-tph.h>

#ifndef CONFIG_PCIE_TPH
__rust_helper int rust_helper_pcie_enable_tph_req_type(struct pci_dev *pdev,
						       int mode, u8 req_type)
{
	return pcie_enable_tph_req_type(pdev, mode, req_type);
}

__rust_helper u8 rust_helper_pcie_tph_supported_req_type(struct pci_dev *pdev)
{
	return pcie_tph_supported_req_type(pdev);
}

__rust_helper u32 rust_helper_pcie_tph_requester(struct pci_dev *pdev)
{
	return pcie_tph_requester(pdev);
}

__rust_helper void rust_helper_pcie_tph_reset(struct pci_dev *pdev)
{
	pcie_tph_reset(pdev);
}
#endif
