-- SPDX-License-Identifier: MIT OR Apache-2.0
-- Dissects the TLPs of the lab's traces: README.md beside this file has the format and the fields.
--
-- It says of each packet what lab/crates/tlp says: `tlp.malformed` for what no link may carry,
-- `tlp.unmodelled` for what is legal, or may be, but is not known there. A test compares the two.

local proto = Proto("tlp", "PCIe TLP (rust-tph)")

-- The header in front of each TLP, as lab/crates/fabric/src/trace/header.rs writes it.
local HEADER_LEN = 8
local VERSION = 2
local NONE = 0xff

local TPH_PREFIX = 0x90

local OBJECTS = { [0] = "none", "command queue", "command", "EQ", "CQ", "SRQ", "QP", "mkey" }
local STATUSES = { [0] = "SC", "UR", "CRS", [4] = "CA" }
local HINTS = { [0] = "bidirectional", "requester", "target", "target with priority" }
local HVS = { [0] = "no hint", "8-bit ST", "reserved", "16-bit ST" }

-- What follows from a type code. Both modes have the same kinds of packet.
local MRD32 = { name = "MRd32", read = true }
local MRD64 = { name = "MRd64", read = true, long = true }
local MWR32 = { name = "MWr32", data = true }
local MWR64 = { name = "MWr64", data = true, long = true }
local CPL = { name = "Cpl", completion = true }
local CPLD = { name = "CplD", completion = true, data = true }
local NONFLIT_TYPES = {
	[0x00] = MRD32, [0x20] = MRD64, [0x40] = MWR32, [0x60] = MWR64, [0x0a] = CPL, [0x4a] = CPLD,
}
-- All but 0x60 are assumptions: lab/crates/tlp/src/assumptions.rs.
local FLIT_TYPES = {
	[0x03] = MRD32, [0x20] = MRD64, [0x40] = MWR32, [0x60] = MWR64, [0x0a] = CPL, [0x4a] = CPLD,
}

local f = {
	version = ProtoField.uint8("tlp.trace.version", "Version of the header"),
	flit = ProtoField.bool("tlp.flit", "Flit mode", 8, nil, 0x01),
	unsupported = ProtoField.bool("tlp.unsupported", "Unsupported request", 8, nil, 0x02),
	receiver = ProtoField.uint8("tlp.receiver", "Receiver (number of its interface)"),
	bar = ProtoField.uint8("tlp.bar", "BAR"),
	object = ProtoField.uint8("tlp.object", "For", base.DEC, OBJECTS),
	object_number = ProtoField.uint24("tlp.object.number", "Number", base.HEX_DEC),
	mkey = ProtoField.uint24("tlp.mkey", "Memory key", base.HEX_DEC),

	type = ProtoField.string("tlp.type", "Type"),
	code = ProtoField.uint8("tlp.type.code", "Type code", base.HEX),
	tc = ProtoField.uint8("tlp.tc", "Traffic class"),
	attr = ProtoField.uint8("tlp.attr", "Attributes", base.HEX),
	length = ProtoField.uint16("tlp.length", "Length (DW)"),
	th = ProtoField.bool("tlp.th", "TH"),
	td = ProtoField.bool("tlp.td", "TD"),
	ep = ProtoField.bool("tlp.ep", "EP"),
	at = ProtoField.uint8("tlp.at", "AT"),
	ts = ProtoField.uint8("tlp.ts", "TS"),
	ohc = ProtoField.uint8("tlp.ohc", "OHC", base.HEX),
	requester = ProtoField.string("tlp.requester", "Requester"),
	requester_id = ProtoField.uint16("tlp.requester.id", "Requester ID", base.HEX),
	completer = ProtoField.string("tlp.completer", "Completer"),
	completer_id = ProtoField.uint16("tlp.completer.id", "Completer ID", base.HEX),
	tag = ProtoField.uint16("tlp.tag", "Tag", base.HEX),
	first_be = ProtoField.uint8("tlp.first_be", "First byte enables", base.HEX),
	last_be = ProtoField.uint8("tlp.last_be", "Last byte enables", base.HEX),
	addr = ProtoField.uint64("tlp.addr", "Address", base.HEX),
	status = ProtoField.uint8("tlp.status", "Status", base.DEC, STATUSES),
	bcm = ProtoField.bool("tlp.bcm", "BCM"),
	byte_count = ProtoField.uint16("tlp.byte_count", "Byte count"),
	lower_addr = ProtoField.uint8("tlp.lower_addr", "Lower address", base.HEX),
	prefix = ProtoField.bytes("tlp.prefix", "TPH prefix"),
	ohc_a = ProtoField.bytes("tlp.ohc_a", "OHC-A"),
	ohc_b = ProtoField.bytes("tlp.ohc_b", "OHC-B"),
	ohc_c = ProtoField.bytes("tlp.ohc_c", "OHC-C"),
	ohc_e = ProtoField.bytes("tlp.ohc_e", "OHC-E"),
	hv = ProtoField.uint8("tlp.hv", "HV", base.DEC, HVS),
	ama = ProtoField.uint8("tlp.ama", "AMA"),
	av = ProtoField.bool("tlp.av", "AV"),
	st = ProtoField.uint16("tlp.st", "Steering tag", base.HEX),
	st_ext = ProtoField.bool("tlp.st.ext", "Steering tag has 16 bits"),
	ph = ProtoField.uint8("tlp.ph", "Processing hint", base.DEC, HINTS),
	data = ProtoField.bytes("tlp.data", "Data"),
	missing = ProtoField.uint32("tlp.missing", "Data not captured (bytes)"),
}
proto.fields = f

local e = {
	trace = ProtoExpert.new("tlp.trace.unknown", "Not a header of the lab's traces",
		expert.group.MALFORMED, expert.severity.ERROR),
	malformed = ProtoExpert.new("tlp.malformed", "Malformed TLP",
		expert.group.MALFORMED, expert.severity.ERROR),
	unmodelled = ProtoExpert.new("tlp.unmodelled", "Not modelled",
		expert.group.UNDECODED, expert.severity.WARN),
	uncaptured = ProtoExpert.new("tlp.uncaptured", "Payload not captured",
		expert.group.COMMENTS_GROUP, expert.severity.NOTE),
	nobody = ProtoExpert.new("tlp.nobody", "Nobody took the request",
		expert.group.RESPONSE_CODE, expert.severity.NOTE),
}
proto.experts = e

local interface_name = Field.new("frame.interface_name")

local function bdf(id)
	local function bits(from, len)
		return math.floor(id / 2 ^ from) % 2 ^ len
	end
	return string.format("%02x:%02x.%x", bits(8, 8), bits(3, 5), bits(0, 3))
end

-- One TLP on its way through the dissector.
local Packet = {}
Packet.__index = Packet

function Packet:malformed(what, ...)
	self.tree:add_proto_expert_info(e.malformed, string.format(what, ...))
end

function Packet:unmodelled(what)
	self.tree:add_proto_expert_info(e.unmodelled, what)
end

-- Refuse a field that is reserved, or not modelled, if it is not 0.
function Packet:reserved(name, value)
	if value ~= 0 then
		self:malformed("%s = 0x%x is reserved", name, value)
	end
end

function Packet:is_unmodelled(name, value)
	if value ~= 0 then
		self:unmodelled(string.format("%s = 0x%x", name, value))
	end
end

-- The next DW, or nothing at the end.
function Packet:dw()
	if self.tvb:len() - self.at < 4 then
		self:malformed("truncated: %d bytes, which end within the headers", self.tvb:len())
		return nil
	end
	self.at = self.at + 4
	return self.tvb(self.at - 4, 4)
end

-- A field that is in no bytes of its own.
function Packet:implied(field, value)
	self.tree:add(field, value):set_generated()
end

function Packet:ids(name, range)
	local id = range:uint()
	self.tree:add(f[name], range, bdf(id))
	self.tree:add(f[name .. "_id"], range)
	return bdf(id)
end

function Packet:hint(st_range, st, extended, ph_range, ph)
	self.st, self.ph = st, ph
	self.tree:add(f.st, st_range, st)
	self:implied(f.st_ext, extended)
	self.tree:add(f.ph, ph_range, ph)
end

-- The rules of byte enables.
function Packet:enables(first, last)
	local legal
	if self.length == 1 then
		legal = last == 0
	elseif self.length == 2 and self.low % 8 == 0 then
		legal = first >= 1 and last >= 1
	else
		legal = (first == 0xf or first == 0xe or first == 0xc or first == 0x8)
			and (last == 0xf or last == 0x7 or last == 0x3 or last == 0x1)
	end
	if not legal then
		self:malformed("byte enables first 0x%x, last 0x%x for %d DW", first, last, self.length)
	end
end

function Packet:implied_enables()
	self:implied(f.first_be, 0xf)
	self:implied(f.last_be, self.length == 1 and 0 or 0xf)
end

-- One or two DWs of address; returns the two bits below it and where they are.
function Packet:address()
	local from, high = self.at, 0
	if self.form.long then
		local dw = self:dw()
		if not dw then
			return nil
		end
		high = dw:uint()
		if high == 0 then
			self:malformed("address below 4 GiB in a 64-bit header")
		end
	end
	local dw = self:dw()
	if not dw then
		return nil
	end
	local bits = dw:bitfield(30, 2)
	local low = dw:uint() - bits
	self.low, self.addr = low, UInt64(low, high)
	self.tree:add(f.addr, self.tvb(from, self.at - from), self.addr)
	if low % 0x1000 + self.length * 4 > 0x1000 then
		self:malformed("%d DW at 0x%s cross a 4 KiB boundary", self.length, self.addr:tohex())
	end
	return bits, dw(3, 1)
end

-- What the length field announces; returns it as it is in a packet without data.
function Packet:take_length(range, code)
	self.length = code == 0 and 1024 or code
	local shown = self.form == CPL and code or self.length
	self.tree:add(f.length, range, shown)
	if self.form == CPL then
		self:reserved("length of a completion without data", code)
	end
end

function Packet:payload()
	local have, need = self.tvb:len() - self.at, 0
	if self.form.data then
		need = self.length * 4
	end
	if self.missing > 0 and have + self.missing == need then
		self.tree:add_proto_expert_info(e.uncaptured,
			string.format("payload not captured: %d bytes of %d", self.missing, need))
		self:implied(f.missing, self.missing)
		need = have
	end
	if have < need then
		self:malformed("truncated: %d bytes of data of %d", have, need)
	elseif have > need then
		self:malformed("%d bytes follow the TLP", have - need)
	end
	if self.form.data and have > 0 then
		self.tree:add(f.data, self.tvb(self.at, math.min(have, need)))
	end
	self.have, self.need = math.min(have, need), need
end

-- Status, byte count and data of a completion must not contradict each other.
function Packet:completion(status, byte_count, lower)
	if not STATUSES[status] then
		self:malformed("completion status %d is reserved", status)
	elseif status ~= 0 and self.form.data then
		self:malformed("completion with status %s carries data", STATUSES[status])
	end
	if self.form.data then
		local remaining = math.ceil((lower % 4 + byte_count) / 4) * 4
		if self.length * 4 > remaining then
			self:malformed("%d bytes of data, of which only %d remain", self.length * 4, remaining)
		end
	end
	self.text = string.format("%s BC=%d", STATUSES[status] or status, byte_count)
end

local function byte_count(range)
	local code = range:bitfield(4, 12)
	return code == 0 and 4096 or code
end

function Packet:nonflit()
	local dw = self:dw()
	if not dw then
		return
	end
	local prefix
	if dw(0, 1):uint() == TPH_PREFIX then
		prefix = dw
		self.tree:add(f.prefix, dw)
		self:reserved("TPH prefix bytes 2-3", dw(2, 2):uint())
		dw = self:dw()
		if not dw then
			return
		end
	end
	if not self:known(dw, NONFLIT_TYPES) then
		return
	end
	local flags, form, tree = dw(1, 2), self.form, self.tree
	local th, at = dw(1, 1):bitfield(7, 1), dw(2, 1):bitfield(4, 2)
	local tag_high = dw(1, 1):bitfield(0, 1) * 512 + dw(1, 1):bitfield(4, 1) * 256
	tree:add(f.tc, dw(1, 1), dw(1, 1):bitfield(1, 3))
	tree:add(f.attr, flags, dw(1, 1):bitfield(5, 1) * 4 + dw(2, 1):bitfield(2, 2))
	tree:add(f.th, dw(1, 1), th == 1)
	tree:add(f.td, dw(2, 1), dw(2, 1):bitfield(0, 1) == 1)
	tree:add(f.ep, dw(2, 1), dw(2, 1):bitfield(1, 1) == 1)
	tree:add(f.at, dw(2, 1), at)
	self:take_length(dw(2, 2), dw(2, 2):bitfield(6, 10))
	self:is_unmodelled("TD", dw(2, 1):bitfield(0, 1))
	self:is_unmodelled("EP", dw(2, 1):bitfield(1, 1))
	self:reserved("byte 1 bit 1", dw(1, 1):bitfield(6, 1))
	if prefix and th == 0 then
		self:malformed("TPH prefix in front of a TLP without TH")
	end
	if form.completion then
		self:reserved("TH of a completion", th)
		self:reserved("AT of a completion", at)
		self:nonflit_completion(tag_high)
	else
		self:is_unmodelled("AT", at)
		self:nonflit_request(th == 1, tag_high, prefix)
	end
end

function Packet:nonflit_request(th, tag_high, prefix)
	local dw1 = self:dw()
	if not dw1 then
		return
	end
	local form, tree = self.form, self.tree
	self.requester = self:ids("requester", dw1(0, 2))
	-- A hinted write has its tag's place, a hinted read that of its byte enables, for ST.
	local st = th and (form.read and dw1(3, 1) or dw1(2, 1))
	if not (th and form.data) then
		tree:add(f.tag, dw1(2, 1), tag_high + dw1(2, 1):uint())
	end
	local last, first = dw1(3, 1):bitfield(0, 4), dw1(3, 1):bitfield(4, 4)
	local enabled = not (th and form.read)
	if enabled then
		tree:add(f.first_be, dw1(3, 1), first)
		tree:add(f.last_be, dw1(3, 1), last)
	else
		self:implied_enables()
	end
	local bits, bits_at = self:address()
	if not bits then
		return
	end
	if enabled then
		self:enables(first, last)
	end
	if th then
		local value = st:uint()
		if prefix then
			value = prefix(1, 1):uint() * 256 + value
		end
		self:hint(st, value, prefix ~= nil, bits_at, bits)
	else
		self:reserved("address bits 1:0", bits)
	end
	self:payload()
end

function Packet:nonflit_completion(tag_high)
	local dw1 = self:dw()
	local dw2 = dw1 and self:dw()
	if not dw2 then
		return
	end
	local tree, status, count = self.tree, dw1(2, 1):bitfield(0, 3), byte_count(dw1(2, 2))
	local bcm, lower = dw1(2, 1):bitfield(3, 1), dw2(3, 1):bitfield(1, 7)
	self.completer = self:ids("completer", dw1(0, 2))
	tree:add(f.status, dw1(2, 1), status)
	tree:add(f.bcm, dw1(2, 1), bcm == 1)
	tree:add(f.byte_count, dw1(2, 2), count)
	self.requester = self:ids("requester", dw2(0, 2))
	tree:add(f.tag, dw2(2, 1), tag_high + dw2(2, 1):uint())
	tree:add(f.lower_addr, dw2(3, 1), lower)
	self:is_unmodelled("BCM", bcm)
	self:reserved("byte 11 bit 7", dw2(3, 1):bitfield(0, 1))
	self:completion(status, count, lower)
	self:payload()
end

function Packet:flit()
	local dw = self:dw()
	if not dw or not self:known(dw, FLIT_TYPES) then
		return
	end
	local tree = self.tree
	local ts, ohc = dw(2, 1):bitfield(0, 3), dw(1, 1):bitfield(3, 5)
	tree:add(f.tc, dw(1, 1), dw(1, 1):bitfield(0, 3))
	tree:add(f.ohc, dw(1, 1), ohc)
	tree:add(f.ts, dw(2, 1), ts)
	tree:add(f.attr, dw(2, 1), dw(2, 1):bitfield(3, 3))
	self:take_length(dw(2, 2), dw(2, 2):bitfield(6, 10))
	self:is_unmodelled("TS", ts)
	self:is_unmodelled("OHC-C and OHC-E", ohc - ohc % 4)
	if self.form.completion then
		self:flit_completion(dw)
	else
		self:flit_request(dw)
	end
end

function Packet:flit_request(dw0)
	local dw1 = self:dw()
	if not dw1 then
		return
	end
	local tree, ep = self.tree, dw1(2, 1):bitfield(0, 1)
	self.requester = self:ids("requester", dw1(0, 2))
	tree:add(f.ep, dw1(2, 1), ep == 1)
	tree:add(f.tag, dw1(2, 2), dw1(2, 2):bitfield(2, 14))
	self:is_unmodelled("EP", ep)
	self:reserved("byte 6 bit 6", dw1(2, 1):bitfield(1, 1))
	local at, at_range = self:address()
	if not at then
		return
	end
	tree:add(f.at, at_range, at)
	self:is_unmodelled("AT", at)
	local a, b = self:ohcs(dw0)
	if a == nil then
		return
	end
	if a then
		local last, first = a(3, 1):bitfield(0, 4), a(3, 1):bitfield(4, 4)
		tree:add(f.first_be, a(3, 1), first)
		tree:add(f.last_be, a(3, 1), last)
		self:is_unmodelled("PASID of OHC-A", a(0, 3):uint())
		self:enables(first, last)
	else
		self:implied_enables()
	end
	if b then
		self:ohc_b(b)
	end
	self:payload()
end

-- The hint.
function Packet:ohc_b(dw)
	local tree, flags = self.tree, dw(3, 1)
	local ph, hv = flags:bitfield(0, 2), flags:bitfield(2, 2)
	local ama, av = flags:bitfield(4, 3), flags:bitfield(7, 1)
	tree:add(f.hv, flags, hv)
	tree:add(f.ama, flags, ama)
	tree:add(f.av, flags, av == 1)
	self:is_unmodelled("AMA", ama)
	self:is_unmodelled("AV", av)
	self:reserved("OHC-B reserved byte", dw(0, 1):uint())
	if hv == 1 then
		self:reserved("OHC-B ST[15:8] of an 8-bit tag", dw(1, 1):uint())
		self:hint(dw(2, 1), dw(2, 1):uint(), false, flags, ph)
	elseif hv == 3 then
		self:hint(dw(1, 2), dw(1, 2):uint(), true, flags, ph)
	elseif hv == 0 then
		self:reserved("OHC-B without a hint", dw:uint())
	else
		self:reserved("HV", hv)
	end
end

function Packet:flit_completion(dw0)
	local dw1 = self:dw()
	local dw2 = dw1 and self:dw()
	if not dw2 then
		return
	end
	local tree, ep, count = self.tree, dw1(2, 1):bitfield(0, 1), byte_count(dw2(2, 2))
	local lower = dw1(2, 1):bitfield(1, 1) * 64 + dw2(2, 1):bitfield(0, 4) * 4
	self.completer = self:ids("completer", dw1(0, 2))
	tree:add(f.ep, dw1(2, 1), ep == 1)
	tree:add(f.tag, dw1(2, 2), dw1(2, 2):bitfield(2, 14))
	self.requester = self:ids("requester", dw2(0, 2))
	tree:add(f.byte_count, dw2(2, 2), count)
	self:is_unmodelled("EP", ep)
	local a, b = self:ohcs(dw0)
	if a == nil then
		return
	end
	local status = 0
	if a then
		status = a(3, 1):bitfield(5, 3)
		lower = lower + a(3, 1):bitfield(3, 2)
		tree:add(f.status, a(3, 1), status)
		self:is_unmodelled("OHC-A of a completion", a(0, 3):uint() * 8 + a(3, 1):bitfield(0, 3))
	else
		self:implied(f.status, status)
	end
	self:implied(f.lower_addr, lower)
	if b then
		self:unmodelled("OHC-B of a completion")
	end
	self:completion(status, count, lower)
	self:payload()
end

-- The OHCs that DW0 announces: A and B, each false if it is not there; nothing if the TLP ends.
function Packet:ohcs(dw0)
	local bits, a, b = dw0(1, 1), false, false
	if bits:bitfield(7, 1) == 1 then
		a = self:dw()
		if not a then
			return nil
		end
		self.tree:add(f.ohc_a, a)
	end
	if bits:bitfield(6, 1) == 1 then
		b = self:dw()
		if not b then
			return nil
		end
		self.tree:add(f.ohc_b, b)
	end
	local rest = { bits:bitfield(5, 1), ({ [0] = 0, 1, 2, 4 })[bits:bitfield(3, 2)] }
	for which, count in ipairs(rest) do
		for _ = 1, count do
			local dw = self:dw()
			if not dw then
				return nil
			end
			self.tree:add(which == 1 and f.ohc_c or f.ohc_e, dw)
		end
	end
	return a, b
end

-- Whether the type in DW0 is one that the model knows.
function Packet:known(dw, types)
	local code = dw(0, 1)
	self.form = types[code:uint()]
	self.tree:add(f.code, code)
	if not self.form then
		self:unmodelled(string.format("unknown type 0x%02x", code:uint()))
		return false
	end
	self.tree:add(f.type, code, self.form.name)
	return true
end

local function summary(packet)
	local form = packet.form
	if not form then
		return "unknown or truncated"
	end
	local words = { form.name }
	if packet.addr then
		table.insert(words, "0x" .. packet.addr:tohex():gsub("^0+", ""))
	end
	if form.data or form.read then
		table.insert(words, packet.length * 4 .. " B")
	end
	if packet.text then
		table.insert(words, packet.text)
	end
	if packet.st then
		table.insert(words, string.format("ST=%Xh PH=%d", packet.st, packet.ph))
	end
	return table.concat(words, " ")
end

function proto.dissector(tvb, pinfo, root)
	pinfo.cols.protocol = "TLP"
	local tree = root:add(proto, tvb())
	if tvb:len() < HEADER_LEN or tvb(0, 1):uint() ~= VERSION then
		tree:add_proto_expert_info(e.trace, string.format(
			"no header of version %d: a trace of another version of the lab, or not one of its traces",
			VERSION))
		pinfo.cols.info = "not a packet of this version of the lab"
		return
	end
	local header = tree:add(proto, tvb(0, HEADER_LEN), "As the lab recorded it")
	local flit, receiver, bar = tvb(1, 1):bitfield(7, 1) == 1, tvb(2, 1), tvb(3, 1)
	header:add(f.version, tvb(0, 1))
	header:add(f.flit, tvb(1, 1))
	header:add(f.unsupported, tvb(1, 1))
	local to = "nobody"
	if receiver:uint() ~= NONE then
		header:add(f.receiver, receiver)
		to = receiver:uint() == 0 and "host" or "interface " .. receiver:uint()
	end
	if bar:uint() ~= NONE then
		header:add(f.bar, bar)
		to = to .. " BAR" .. bar:uint()
	end
	local kind = tvb(4, 1)
	if kind:uint() ~= 0 then
		header:add(f.object, kind)
		header:add(f.object_number, tvb(5, 3))
		if OBJECTS[kind:uint()] == "mkey" then
			header:add(f.mkey, tvb(5, 3))
		end
	end
	local from = interface_name()
	pinfo.cols.src = from and tostring(from) or "?"
	pinfo.cols.dst = to

	local tlp = tvb:len() > HEADER_LEN and tvb(HEADER_LEN):tvb() or nil
	if not tlp then
		tree:add_proto_expert_info(e.malformed, "truncated: no TLP")
		return
	end
	-- A trace with a snaplen lacks payload.
	local missing = tvb:reported_len() - tvb:len()
	local packet = setmetatable({ tvb = tlp, tree = tree, at = 0, missing = missing }, Packet)
	if flit then
		packet:flit()
	else
		packet:nonflit()
	end
	if tvb(1, 1):bitfield(6, 1) == 1 then
		tree:add_proto_expert_info(e.nobody)
	end
	local text = summary(packet)
	tree:append_text(", " .. text)
	pinfo.cols.info = text
end

-- Wireshark 4 calls them wtap_encaps, older ones wtap.
DissectorTable.get("wtap_encap"):add((wtap_encaps or wtap).USER0, proto)
