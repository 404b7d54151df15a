// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test programs of the guest.

/// Programs with this prefix are guest tests.
pub const ALL: &str = "guest-";
/// Those among them that need no more than the devices that every topology has.
pub const EVERYWHERE: [&str; 2] = ["guest-dma-buf-tph", "guest-whole-path"];
/// What needs initiators of every kind, for a driver in user space.
pub const USER_SPACE_DRIVER: &str = "vfio-driver";
/// What needs a root port.
pub const ROOT_PORT: &str = "root-port-";

/// Those of a requester that user space owns, an integrated endpoint.
pub const REQUESTER: &str = "vfio-tph-integrated-";
/// That among them which can take long.
pub const REQUESTER_LIFETIME: &str = "vfio-tph-integrated-lifetime";
/// Those of every kind at the lowest policy level.
pub const LOWEST_LEVEL: &str = "vfio-tph-lowest-level";
/// The same behind a root port.
pub const REQUESTER_ROOT_PORT: &str = "vfio-tph-root-port";

// What needs a guest of its own: a processor, kernel parameters or an end of the devices that the
// others cannot do with.
pub const UNTRUSTED_CPU: &str = "untrusted-cpu";
pub const NO_TPH: &str = "notph";
pub const REDIRECT_ON_PATH: &str = "acs-redirect-on-path";
pub const REDIRECT_OFF_PATH: &str = "acs-redirect-off-path";
pub const DEVICES_KILLED: &str = "devices-killed";

// The tests of RDMA, which are in the repository and not built.
/// They need a topology with an adapter.
pub const RDMA_ALL: &str = "tools/testing/selftests/rdma-tph/rdma-";
/// Those that depend on where the adapter is.
pub const RDMA_EVERYWHERE: [&str; 2] = [
    "tools/testing/selftests/rdma-tph/rdma-core-tests",
    RDMA_HINTS,
];
/// That which depends on how the adapter keeps tags.
pub const RDMA_HINTS: &str = "tools/testing/selftests/rdma-tph/rdma-dma-buf-tph";

/// Those that need nothing of this project's in the kernel.
pub const RDMA_STOCK: [&str; 4] = [
    "tools/testing/selftests/rdma-tph/rdma-core-tests",
    "tools/testing/selftests/rdma-tph/rdma-devinfo",
    "tools/testing/selftests/rdma-tph/rdma-perftest",
    "tools/testing/selftests/rdma-tph/rdma-gateways",
];
// They take long, or need a guest of their own.
pub const RDMA_RELOAD: &str = "tools/testing/selftests/rdma-tph/rdma-reload";
pub const RDMA_REGISTRATIONS: &str = "tools/testing/selftests/rdma-tph/rdma-registrations";
pub const ADAPTER_IDLE: &str = "tools/testing/selftests/rdma-tph/adapter-idle";
pub const ADAPTER_KILLED: &str = "tools/testing/selftests/rdma-tph/adapter-killed";

/// A program prints this line to have the device process killed in mid-transfer.
pub const KILL_DEVICES: &str = "# kill the device process";
