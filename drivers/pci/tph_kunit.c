// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of TLP Processing Hints; part of tph.c.
 *
 * The device, its Root Port and their buses are only memory. The device's
 * config space counts what is read and can be told to fail.
 */
#include <kunit/test.h>

#define TPH_TEST_CAP		PCI_CFG_SPACE_SIZE
#define TPH_TEST_EXP_CAP	0x40
#define TPH_TEST_ENTRIES	4
#define TPH_TEST_ENTRY(i)	(TPH_TEST_CAP + PCI_TPH_BASE_SIZEOF + 2 * (i))

struct tph_test {
	struct pci_dev rp;
	struct pci_dev pdev;
	struct pci_bus root;
	struct pci_bus bus;
	u8 rp_config[PCI_CFG_SPACE_EXP_SIZE];
	u8 config[PCI_CFG_SPACE_EXP_SIZE];
	unsigned int reads;
	int fail_write;		/* offset at which a write fails */
	int fail_write_to;	/* and what must be written there for it to */
};

static u8 *tph_test_config(struct pci_bus *bus, struct tph_test **test)
{
	if (bus->parent) {
		*test = container_of(bus, struct tph_test, bus);
		return (*test)->config;
	}

	*test = container_of(bus, struct tph_test, root);
	return (*test)->rp_config;
}

static int tph_test_read(struct pci_bus *bus, unsigned int devfn, int where,
			 int size, u32 *val)
{
	struct tph_test *test;
	__le32 raw = 0;
	u8 *config = tph_test_config(bus, &test);

	memcpy(&raw, config + where, size);
	*val = le32_to_cpu(raw);
	test->reads++;

	return PCIBIOS_SUCCESSFUL;
}

static int tph_test_write(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 val)
{
	__le32 raw = cpu_to_le32(val);
	struct tph_test *test;
	u8 *config = tph_test_config(bus, &test);

	if (where == test->fail_write && val == test->fail_write_to)
		return PCIBIOS_SET_FAILED;

	memcpy(config + where, &raw, size);

	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops tph_test_ops = {
	.read = tph_test_read,
	.write = tph_test_write,
};

static u16 tph_test_get16(struct tph_test *test, int where)
{
	return test->config[where] | test->config[where + 1] << 8;
}

static void tph_test_set32(u8 *config, int where, u32 val)
{
	__le32 raw = cpu_to_le32(val);

	memcpy(config + where, &raw, sizeof(raw));
}

/* An endpoint with this Requester Capability behind this Root Port */
static struct tph_test *tph_test_device(struct kunit *kunit, u32 requester,
					u32 completer)
{
	struct tph_test *test = kunit_kzalloc(kunit, sizeof(*test), GFP_KERNEL);
	struct pci_dev *pdev;

	KUNIT_ASSERT_NOT_NULL(kunit, test);

	test->fail_write = -1;
	test->root.ops = &tph_test_ops;
	test->bus.ops = &tph_test_ops;
	test->bus.parent = &test->root;
	test->bus.self = &test->rp;

	test->rp.bus = &test->root;
	test->rp.pcie_cap = TPH_TEST_EXP_CAP;
	test->rp.pcie_flags_reg = 2 | PCI_EXP_TYPE_ROOT_PORT << 4;
	tph_test_set32(test->rp_config, TPH_TEST_EXP_CAP + PCI_EXP_DEVCAP2,
		       FIELD_PREP(PCI_EXP_DEVCAP2_TPH_COMP_MASK, completer));

	pdev = &test->pdev;
	pdev->dev.init_name = "tph_test";
	pdev->bus = &test->bus;
	pdev->pcie_cap = TPH_TEST_EXP_CAP;
	pdev->pcie_flags_reg = 2 | PCI_EXP_TYPE_ENDPOINT << 4;
	pdev->cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	tph_test_set32(test->config, TPH_TEST_CAP,
		       PCI_EXT_CAP_ID_TPH | 1 << 16);
	tph_test_set32(test->config, TPH_TEST_CAP + PCI_TPH_CAP, requester);
	pci_tph_init(pdev);

	return test;
}

/* All modes, Extended, a table of TPH_TEST_ENTRIES in the capability */
#define TPH_TEST_REQUESTER						\
	(PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS |	\
	 PCI_TPH_CAP_EXT_TPH | PCI_TPH_LOC_CAP |			\
	 FIELD_PREP_CONST(PCI_TPH_CAP_ST_MASK, TPH_TEST_ENTRIES - 1))

static struct tph_test *tph_test_enabled(struct kunit *kunit, u32 requester)
{
	struct tph_test *test;

	test = tph_test_device(kunit, requester,
			       PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH);
	KUNIT_ASSERT_EQ(kunit, 0,
			pcie_enable_tph(&test->pdev, PCI_TPH_ST_DS_MODE));

	return test;
}

static void tph_test_free(struct tph_test *test)
{
	pci_free_cap_save_buffers(&test->pdev);
}

/* The control register and what the kernel knows of it are the same */
static void tph_test_expect(struct kunit *kunit, struct tph_test *test,
			    int mode, u8 req_type)
{
	KUNIT_EXPECT_EQ(kunit, req_type << 8 | mode,
			tph_test_get16(test, TPH_TEST_CAP + PCI_TPH_CTRL));
	KUNIT_EXPECT_EQ(kunit, req_type,
			pcie_tph_enabled_req_type(&test->pdev));
	KUNIT_EXPECT_EQ(kunit, mode, test->pdev.tph_mode);
	KUNIT_EXPECT_EQ(kunit, req_type, test->pdev.tph_req_type);
}

static void tph_location_is_in_its_place(struct kunit *kunit)
{
	static const u32 locations[] = {
		PCI_TPH_LOC_NONE, PCI_TPH_LOC_CAP, PCI_TPH_LOC_MSIX,
		PCI_TPH_CAP_LOC_MASK,
	};
	u32 requester = TPH_TEST_REQUESTER & ~PCI_TPH_CAP_LOC_MASK;

	for (int i = 0; i < ARRAY_SIZE(locations); i++) {
		struct tph_test *test;

		test = tph_test_device(kunit, requester | locations[i], 0);
		KUNIT_EXPECT_EQ(kunit, locations[i],
				pcie_tph_get_st_table_loc(&test->pdev));
		KUNIT_EXPECT_EQ(kunit,
				locations[i] == PCI_TPH_LOC_CAP ?
					TPH_TEST_ENTRIES : 0,
				pcie_tph_get_st_table_size(&test->pdev));
		tph_test_free(test);
	}
}

/* Whatever sets a flag of the word must not touch the state of TPH */
static void tph_enabled_is_no_bit(struct kunit *kunit)
{
	struct tph_test *test = tph_test_device(kunit, 0, 0);
	bool *enabled = &test->pdev.tph_enabled;

	*enabled = true;
	KUNIT_EXPECT_EQ(kunit, 1, sizeof(*enabled));
	tph_test_free(test);
}

static void tph_capability_is_read_once(struct kunit *kunit)
{
	struct tph_test *test = tph_test_device(kunit, TPH_TEST_REQUESTER, 0);
	unsigned int reads = test->reads;

	/* As a device that is asleep answers */
	tph_test_set32(test->config, TPH_TEST_CAP + PCI_TPH_CAP, ~0);
	KUNIT_EXPECT_EQ(kunit, PCI_TPH_LOC_CAP,
			pcie_tph_get_st_table_loc(&test->pdev));
	KUNIT_EXPECT_EQ(kunit, TPH_TEST_ENTRIES,
			pcie_tph_get_st_table_size(&test->pdev));
	KUNIT_EXPECT_EQ(kunit, TPH_TEST_REQUESTER,
			pcie_tph_requester(&test->pdev));
	KUNIT_EXPECT_EQ(kunit, reads, test->reads);
	tph_test_free(test);
}

static void tph_supported_type_is_the_smaller(struct kunit *kunit)
{
	static const struct {
		u32 requester;
		u32 completer;
		u8 type;
		u8 integrated;
	} cases[] = {
		{ PCI_TPH_CAP_EXT_TPH, 0, 0, 3 },
		{ PCI_TPH_CAP_EXT_TPH, 1, 1, 3 },
		{ PCI_TPH_CAP_EXT_TPH, 2, 0, 3 },	/* reserved */
		{ PCI_TPH_CAP_EXT_TPH, 3, 3, 3 },
		{ 0, 0, 0, 1 },
		{ 0, 1, 1, 1 },
		{ 0, 2, 0, 1 },
		{ 0, 3, 1, 1 },
	};

	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		u32 requester = PCI_TPH_CAP_ST_NS | cases[i].requester;
		struct tph_test *test;

		test = tph_test_device(kunit, requester, cases[i].completer);
		KUNIT_EXPECT_EQ(kunit, cases[i].type,
				pcie_tph_supported_req_type(&test->pdev));
		test->pdev.pcie_flags_reg = 2 | PCI_EXP_TYPE_RC_END << 4;
		KUNIT_EXPECT_EQ(kunit, cases[i].integrated,
				pcie_tph_supported_req_type(&test->pdev));
		test->pdev.tph_cap = 0;
		KUNIT_EXPECT_EQ(kunit, PCI_TPH_REQ_DISABLE,
				pcie_tph_supported_req_type(&test->pdev));
		tph_test_free(test);
	}
}

static void tph_enable_takes_the_largest_type(struct kunit *kunit)
{
	for (u8 completer = 0; completer < 4; completer++) {
		bool reserved = completer == 2;
		struct tph_test *test;
		int ret;

		test = tph_test_device(kunit, TPH_TEST_REQUESTER, completer);
		ret = pcie_enable_tph(&test->pdev, PCI_TPH_ST_DS_MODE);
		if (!completer || reserved) {
			KUNIT_EXPECT_EQ(kunit, -EINVAL, ret);
			tph_test_expect(kunit, test, 0, 0);
		} else {
			KUNIT_EXPECT_EQ(kunit, 0, ret);
			tph_test_expect(kunit, test, PCI_TPH_ST_DS_MODE,
					completer);
		}
		tph_test_free(test);
	}
}

static void tph_enable_with_a_type(struct kunit *kunit)
{
	struct tph_test *test = tph_test_device(kunit, TPH_TEST_REQUESTER, 3);
	struct pci_dev *pdev = &test->pdev;

	KUNIT_EXPECT_EQ(kunit, -EINVAL, pcie_enable_tph_req_type(pdev, 2, 0));
	KUNIT_EXPECT_EQ(kunit, -EINVAL, pcie_enable_tph_req_type(pdev, 2, 2));
	KUNIT_EXPECT_EQ(kunit, -EINVAL, pcie_enable_tph_req_type(pdev, 2, 4));
	KUNIT_EXPECT_EQ(kunit, -EINVAL, pcie_enable_tph_req_type(pdev, 3, 1));
	tph_test_expect(kunit, test, 0, 0);

	KUNIT_EXPECT_EQ(kunit, 0, pcie_enable_tph_req_type(pdev, 2, 1));
	tph_test_expect(kunit, test, 2, 1);
	KUNIT_EXPECT_EQ(kunit, -EBUSY, pcie_enable_tph_req_type(pdev, 1, 3));
	tph_test_expect(kunit, test, 2, 1);

	pcie_disable_tph(pdev);
	KUNIT_EXPECT_EQ(kunit, 0, pcie_enable_tph_req_type(pdev, 1, 3));
	tph_test_expect(kunit, test, 1, 3);
	tph_test_free(test);
}

static void tph_enable_not_above_the_supported_type(struct kunit *kunit)
{
	struct tph_test *test = tph_test_device(kunit, TPH_TEST_REQUESTER, 1);

	KUNIT_EXPECT_EQ(kunit, -EINVAL,
			pcie_enable_tph_req_type(&test->pdev, 2, 3));
	tph_test_expect(kunit, test, 0, 0);
	KUNIT_EXPECT_EQ(kunit, 0, pcie_enable_tph_req_type(&test->pdev, 2, 1));
	tph_test_expect(kunit, test, 2, 1);
	tph_test_free(test);
}

static void tph_failed_enable_changes_nothing(struct kunit *kunit)
{
	struct tph_test *test = tph_test_device(kunit, TPH_TEST_REQUESTER, 3);

	test->fail_write = TPH_TEST_CAP + PCI_TPH_CTRL;
	test->fail_write_to = 0x302;
	KUNIT_EXPECT_EQ(kunit, -EIO,
			pcie_enable_tph(&test->pdev, PCI_TPH_ST_DS_MODE));
	tph_test_expect(kunit, test, 0, 0);
	tph_test_free(test);
}

static void tph_entry_is_written(struct kunit *kunit)
{
	struct tph_test *test = tph_test_enabled(kunit, TPH_TEST_REQUESTER);

	KUNIT_EXPECT_EQ(kunit, 0, pcie_tph_set_st_entry(&test->pdev, 0, 0x12));
	KUNIT_EXPECT_EQ(kunit, 0,
			pcie_tph_set_st_entry(&test->pdev, 3, 0xbef0));
	KUNIT_EXPECT_EQ(kunit, 0x12, tph_test_get16(test, TPH_TEST_ENTRY(0)));
	KUNIT_EXPECT_EQ(kunit, 0xbef0, tph_test_get16(test, TPH_TEST_ENTRY(3)));
	tph_test_expect(kunit, test, PCI_TPH_ST_DS_MODE, PCI_TPH_REQ_EXT_TPH);
	tph_test_free(test);
}

static void tph_entry_that_is_not_there(struct kunit *kunit)
{
	static const unsigned int indexes[] = {
		TPH_TEST_ENTRIES, 2048, INT_MAX, UINT_MAX,
	};
	struct tph_test *test = tph_test_enabled(kunit, TPH_TEST_REQUESTER);

	for (int i = 0; i < ARRAY_SIZE(indexes); i++)
		KUNIT_EXPECT_EQ(kunit, -ENXIO,
				pcie_tph_set_st_entry(&test->pdev, indexes[i],
						      0x12));
	tph_test_expect(kunit, test, PCI_TPH_ST_DS_MODE, PCI_TPH_REQ_EXT_TPH);
	tph_test_free(test);
}

static void tph_entry_of_no_table(struct kunit *kunit)
{
	static const struct {
		u32 location;
		int ret;
	} cases[] = {
		{ PCI_TPH_LOC_NONE, -EINVAL },
		{ PCI_TPH_CAP_LOC_MASK, -EINVAL },
		{ PCI_TPH_LOC_MSIX, -ENXIO },	/* MSI-X is off */
	};
	u32 requester = TPH_TEST_REQUESTER & ~PCI_TPH_CAP_LOC_MASK;

	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tph_test *test;

		test = tph_test_enabled(kunit, requester | cases[i].location);
		KUNIT_EXPECT_EQ(kunit, cases[i].ret,
				pcie_tph_set_st_entry(&test->pdev, 0, 0x12));
		tph_test_expect(kunit, test, PCI_TPH_ST_DS_MODE,
				PCI_TPH_REQ_EXT_TPH);
		tph_test_free(test);
	}
}

static void tph_failed_entry_keeps_the_rest(struct kunit *kunit)
{
	struct tph_test *test = tph_test_enabled(kunit, TPH_TEST_REQUESTER);

	KUNIT_EXPECT_EQ(kunit, 0, pcie_tph_set_st_entry(&test->pdev, 1, 0x34));
	test->fail_write = TPH_TEST_ENTRY(1);
	test->fail_write_to = 0x56;
	KUNIT_EXPECT_EQ(kunit, -EIO,
			pcie_tph_set_st_entry(&test->pdev, 1, 0x56));
	KUNIT_EXPECT_EQ(kunit, 0x34, tph_test_get16(test, TPH_TEST_ENTRY(1)));
	tph_test_expect(kunit, test, PCI_TPH_ST_DS_MODE, PCI_TPH_REQ_EXT_TPH);
	tph_test_free(test);
}

static void tph_device_that_stays_off_counts_as_off(struct kunit *kunit)
{
	struct tph_test *test = tph_test_enabled(kunit, TPH_TEST_REQUESTER);

	test->fail_write = TPH_TEST_CAP + PCI_TPH_CTRL;
	test->fail_write_to = 0x302;
	KUNIT_EXPECT_EQ(kunit, -EIO,
			pcie_tph_set_st_entry(&test->pdev, 1, 0x56));
	tph_test_expect(kunit, test, 0, 0);
	tph_test_free(test);
}

static void tph_reset_forgets(struct kunit *kunit)
{
	struct tph_test *test = tph_test_enabled(kunit, TPH_TEST_REQUESTER);

	for (int i = 0; i < TPH_TEST_ENTRIES; i++)
		pcie_tph_set_st_entry(&test->pdev, i, 0x12 + i);
	/* Next to the table */
	test->config[TPH_TEST_ENTRY(TPH_TEST_ENTRIES)] = 0x5a;
	pcie_tph_reset(&test->pdev);
	tph_test_expect(kunit, test, 0, 0);
	for (int i = 0; i < TPH_TEST_ENTRIES; i++)
		KUNIT_EXPECT_EQ(kunit, 0,
				tph_test_get16(test, TPH_TEST_ENTRY(i)));
	KUNIT_EXPECT_EQ(kunit, 0x5a,
			tph_test_get16(test, TPH_TEST_ENTRY(TPH_TEST_ENTRIES)));

	/* Enabled by nobody that the kernel knows */
	tph_test_set32(test->config, TPH_TEST_CAP + PCI_TPH_CTRL, 0x102);
	pcie_tph_reset(&test->pdev);
	tph_test_expect(kunit, test, 0, 0);
	tph_test_free(test);
}

static void tph_cpu_tag_is_valid_or_an_error(struct kunit *kunit)
{
	static const struct {
		enum tph_mem_type mem_type;
		u8 req_type;
		int valid;	/* the bit that marks it */
		u16 tag;
	} cases[] = {
		{ TPH_MEM_TYPE_VM, PCI_TPH_REQ_TPH_ONLY, 0, 0x12 },
		{ TPH_MEM_TYPE_VM, PCI_TPH_REQ_EXT_TPH, 1, 0x3456 },
		{ TPH_MEM_TYPE_PM, PCI_TPH_REQ_TPH_ONLY, 32, 0x78 },
		{ TPH_MEM_TYPE_PM, PCI_TPH_REQ_EXT_TPH, 33, 0x9abc },
	};
	const u64 valid = BIT_ULL(0) | BIT_ULL(1) | BIT_ULL(32) | BIT_ULL(33);
	const u64 tags = 0x9abc780034561200;

	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		union st_info info = { .value = tags | valid };
		u16 tag = 0;

		KUNIT_EXPECT_EQ(kunit, 0,
				tph_extract_tag(cases[i].mem_type,
						cases[i].req_type, &info, &tag));
		KUNIT_EXPECT_EQ(kunit, cases[i].tag, tag);

		info.value &= ~BIT_ULL(cases[i].valid);
		KUNIT_EXPECT_EQ(kunit, -EOPNOTSUPP,
				tph_extract_tag(cases[i].mem_type,
						cases[i].req_type, &info, &tag));

		/* Zero is a tag like any other */
		info.value = BIT_ULL(cases[i].valid);
		KUNIT_EXPECT_EQ(kunit, 0,
				tph_extract_tag(cases[i].mem_type,
						cases[i].req_type, &info, &tag));
		KUNIT_EXPECT_EQ(kunit, 0, tag);
	}
}

static void tph_cpu_tag_needs_a_width(struct kunit *kunit)
{
	union st_info info = { .value = ~0ULL };
	u16 tag;

	KUNIT_EXPECT_EQ(kunit, -EINVAL,
			tph_extract_tag(TPH_MEM_TYPE_VM, PCI_TPH_REQ_DISABLE,
					&info, &tag));
	KUNIT_EXPECT_EQ(kunit, -EINVAL,
			tph_extract_tag(TPH_MEM_TYPE_VM, 2, &info, &tag));
}

static struct kunit_case tph_test_cases[] = {
	KUNIT_CASE(tph_location_is_in_its_place),
	KUNIT_CASE(tph_enabled_is_no_bit),
	KUNIT_CASE(tph_capability_is_read_once),
	KUNIT_CASE(tph_supported_type_is_the_smaller),
	KUNIT_CASE(tph_enable_takes_the_largest_type),
	KUNIT_CASE(tph_enable_with_a_type),
	KUNIT_CASE(tph_enable_not_above_the_supported_type),
	KUNIT_CASE(tph_failed_enable_changes_nothing),
	KUNIT_CASE(tph_entry_is_written),
	KUNIT_CASE(tph_entry_that_is_not_there),
	KUNIT_CASE(tph_entry_of_no_table),
	KUNIT_CASE(tph_failed_entry_keeps_the_rest),
	KUNIT_CASE(tph_device_that_stays_off_counts_as_off),
	KUNIT_CASE(tph_reset_forgets),
	KUNIT_CASE(tph_cpu_tag_is_valid_or_an_error),
	KUNIT_CASE(tph_cpu_tag_needs_a_width),
	{}
};

static struct kunit_suite tph_test_suite = {
	.name = "pcie_tph",
	.test_cases = tph_test_cases,
};

kunit_test_suite(tph_test_suite);
