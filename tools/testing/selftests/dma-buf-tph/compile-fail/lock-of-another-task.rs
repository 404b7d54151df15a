// SPDX-License-Identifier: GPL-2.0
//! a reservation is not unlocked by another task
//! error[E0277]

use kernel::dma_buf::Reservation;

fn is_send<T: Send>(_value: T) {}

pub fn send(resv: Reservation<'_>) {
    is_send(resv);
}
