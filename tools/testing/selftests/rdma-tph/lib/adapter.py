# SPDX-License-Identifier: GPL-2.0
"""The RDMA adapter: its drivers, and its TPH requester capability in configuration space."""

import ctypes
import glob
import mmap
import os
import re
import subprocess
import time

VENDOR, DEVICE = "0x15b3", "0x1021"
TPH = 0x17
WAIT = 30
COMPLAINTS = r"(mlx5_core|infiniband) .*(timeout|Fatal error|health compromised|Health issue|error state|leak)"


def pci_devices(vendor, device):
    """Directories in sysfs of the PCI functions with these ids."""
    for path in sorted(glob.glob("/sys/bus/pci/devices/*")):
        def read(name, path=path):
            with open(os.path.join(path, name), encoding="ascii") as file:
                return file.read().strip()
        if (read("vendor"), read("device")) == (vendor, device):
            yield path


def sysfs():
    """Directory in sysfs of the adapter's function: of the one that the environment variable ADAPTER
    names, as the guest's nth in the order of addresses, from 0 on."""
    functions = list(pci_devices(VENDOR, DEVICE))
    return functions[int(os.environ.get("ADAPTER", "0"))]


def put(path, text):
    """Writes a file of sysfs."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def keep_others_out(chosen):
    """The drivers get the chosen adapter and no other one of the guest."""
    for function in pci_devices(VENDOR, DEVICE):
        is_chosen, driver = function == chosen, os.path.join(function, "driver")
        put(os.path.join(function, "driver_override"), "\n" if is_chosen else "none")
        if not is_chosen and os.path.exists(driver):
            put(os.path.join(driver, "unbind"), os.path.basename(function))


def bind(function):
    """The loaded drivers take an adapter that they were kept from."""
    if not os.path.exists(os.path.join(function, "driver")):
        put("/sys/bus/pci/drivers_probe", os.path.basename(function))


def has_root_port():
    """Whether there is a root port above it."""
    return os.path.realpath(sysfs()).count("/0000:") > 1


def names():
    """The names of the RDMA devices that there are."""
    return os.listdir("/sys/class/infiniband") if os.path.isdir("/sys/class/infiniband") else []


def load():
    """Loads the drivers; the name of the adapter."""
    if has_root_port():
        # An emulated root port takes no hints, so the devices behind it would be denied them.
        subprocess.run(["modprobe", "tph_root_port"], check=True)
    chosen = sysfs()
    keep_others_out(chosen)
    subprocess.run(["modprobe", "mlx5_ib"], check=True)
    bind(chosen)
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if names():
            settle()
            [name] = names()
            return name
        time.sleep(0.05)
    raise TimeoutError(f"no RDMA device after {WAIT} s")


def settle():
    """Waits until udev has given the adapter and its nodes their names."""
    subprocess.run(["udevadm", "settle"], check=False)


def unload():
    """Unloads the drivers."""
    subprocess.run(["modprobe", "-r", "mlx5_ib"], check=True)
    subprocess.run(["modprobe", "-r", "mlx5_core"], check=True)


def complaints():
    """What the drivers have said of their device in the kernel log, beyond what they always say."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return [line for line in log.splitlines() if re.search(COMPLAINTS, line)]


def config():
    """Its configuration space."""
    with open(os.path.join(sysfs(), "config"), "rb") as file:
        return file.read()


# Opcodes of commands.
CREATE_MKEY = 0x200
# The register of the lab's own with which commands are refused, see the model's registers.rs.
REFUSE = 0x3ff000


def refuse(opcode, number):
    """The adapter refuses the next commands with this opcode, for want of resources."""
    with open(os.path.join(sysfs(), "resource0"), "r+b") as file:
        page = mmap.mmap(file.fileno(), mmap.PAGESIZE, offset=REFUSE)
        register = ctypes.c_uint32.from_buffer(page)
        register.value = int.from_bytes((opcode << 16 | number).to_bytes(4, "big"), "little")
        del register
        page.close()


class Tph:
    """What its TPH requester capability says now."""

    def __init__(self):
        space, at = config(), 0x100
        while True:
            header = int.from_bytes(space[at:at + 4], "little")
            if header & 0xffff == TPH:
                break
            at = header >> 20
            if not at:
                raise LookupError("no TPH requester capability")
        capability = int.from_bytes(space[at + 4:at + 8], "little")
        control = int.from_bytes(space[at + 8:at + 12], "little")
        self.enabled = control >> 8 & 3
        self.mode = control & 7
        entries = (capability >> 16 & 0x7ff) + 1 if capability >> 9 & 3 == 1 else 0
        table = space[at + 12:at + 12 + 2 * entries]
        self.table = [int.from_bytes(table[2 * i:2 * i + 2], "little") for i in range(entries)]
