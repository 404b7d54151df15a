// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times of the clock that were measured one by one.

use std::time::Duration;

/// Some times; there is at least one.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }

    /// The time that so many percent of them do not exceed.
    pub fn at_percent(&self, percent: usize) -> Duration {
        let last = self.0.len() - 1;
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0[rank.saturating_sub(1).min(last)]
    }
}

pub fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = Times::new((1..=200).rev().map(Duration::from_micros).collect());
        for (percent, expected) in [(50, 100), (99, 198), (100, 200)] {
            let time = times.at_percent(percent);
            assert_eq!(time, Duration::from_micros(expected));
        }
        let one = Times::new(vec![Duration::from_micros(7)]);
        assert_eq!(one.at_percent(99), Duration::from_micros(7));
    }
}
