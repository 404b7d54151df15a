#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Stands for udevadm, systemd-udevd and systemd-tmpfiles in a guest that runs one script and ends. The kernel makes the
# device nodes; of all that udev adds to them, virtme-ng needs the names of its ports. Everything else is left out: under
# software emulation it would take longer than the rest of the boot.
case $0 in
*udevd)
	mkdir -p /dev/virtio-ports
	for port in /sys/class/virtio-ports/*; do
		read -r name <"$port/name" && ln -s "../${port##*/}" "/dev/virtio-ports/$name"
	done
	;;
esac
