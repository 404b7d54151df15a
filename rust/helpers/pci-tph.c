// SPDX-License-Identifier: GPL-2.0

#include <linux/pci.h>
#include <linux/pci-tph.h>

#ifndef CONFIG_PCIE_TPH
__rust_helper int rust_helper_pcie_enable_tph(struct pci_dev *pdev, int mode)
{
	return pcie_enable_tph(pdev, mode);
}

__rust_helper void rust_helper_pcie_disable_tph(struct pci_dev *pdev)
{
	pcie_disable_tph(pdev);
}

__rust_helper int
rust_helper_pcie_tph_get_cpu_st_req_type(struct pci_dev *pdev,
					 enum tph_mem_type mem_type,
					 u8 req_type, unsigned int cpu,
					 u16 *tag)
{
	return pcie_tph_get_cpu_st_req_type(pdev, mem_type, req_type, cpu, tag);
}

__rust_helper int rust_helper_pcie_tph_set_st_entry(struct pci_dev *pdev,
						    unsigned int index, u16 tag)
{
	return pcie_tph_set_st_entry(pdev, index, tag);
}

__rust_helper u16 rust_helper_pcie_tph_get_st_table_size(struct pci_dev *pdev)
{
	return pcie_tph_get_st_table_size(pdev);
}

__rust_helper u32 rust_helper_pcie_tph_get_st_table_loc(struct pci_dev *pdev)
{
	return pcie_tph_get_st_table_loc(pdev);
}

__rust_helper u8 rust_helper_pcie_tph_completer_type(struct pci_dev *pdev)
{
	return pcie_tph_completer_type(pdev);
}

__rust_helper u8 rust_helper_pcie_tph_enabled_req_type(struct pci_dev *pdev)
{
	return pcie_tph_enabled_req_type(pdev);
}
#endif
