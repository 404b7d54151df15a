// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measurements, and how they are shown.

use ::report::style::Style;
use connectx_driver::measure::{Bound, Measurement, Required};
use serde::Serialize;
use std::fmt::Write;
use std::{fs, thread};

/// Where and when it was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    processor: String,
    processors: usize,
    load: f64,
}

impl Host {
    pub fn of_now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: processor(&read("/proc/cpuinfo")),
            processors: thread::available_parallelism().map_or(1, usize::from),
            load: load(&read("/proc/loadavg")),
        }
    }
}

fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| "unknown processor".into())
}

fn load(loadavg: &str) -> f64 {
    let first = loadavg.split_ascii_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// All of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    host: Host,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<String>,
    measurements: Vec<Measurement>,
}

impl Report {
    pub fn new(host: Host, kernel: Option<String>, inputs: Option<String>) -> Self {
        Self {
            host,
            kernel,
            inputs,
            measurements: vec![],
        }
    }

    pub fn extend(&mut self, more: Vec<Measurement>) {
        self.measurements.extend(more);
    }

    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("numbers and text");
        text + "\n"
    }

    pub fn table(&self, style: Style) -> String {
        let Host {
            processor,
            processors,
            load,
        } = &self.host;
        let mut about = format!("· {processor}, {processors} processors, load {load}");
        if let Some(kernel) = &self.kernel {
            let _ = write!(about, " · Linux {kernel}");
        }
        let mut table = format!(
            "{} {}\n",
            style.heading("rust-tph bench"),
            style.faint(about)
        );
        let mut group = "";
        let width = |text: &String| text.chars().count();
        let widest = self.measurements.iter().map(|one| width(&one.name)).max();
        let widest = widest.unwrap_or_default();
        for one in &self.measurements {
            if one.group != group {
                group = &one.group;
                let _ = writeln!(table, "\n{group}");
            }
            let value = number(one.value);
            let _ = write!(table, "  {:widest$}  {value:>10} {}", one.name, one.unit);
            if let Some(what) = &one.compared_with {
                let _ = write!(table, " {}", style.faint(format!("({what})")));
            }
            if let Some(Required { bound, met }) = &one.required {
                let required = match bound {
                    Bound::AtLeast(least) => format!("at least {least}"),
                    Bound::AtMost(most) => format!("at most {most}"),
                };
                let verdict = if *met {
                    style.good("met")
                } else {
                    style.bad("not met")
                };
                let _ = write!(table, ", required {required}: {verdict}");
            }
            table.push('\n');
        }
        table
    }
}

/// Three digits that count, and no exponent.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 | 100.0.. => 0,
        10.0..100.0 => 1,
        1.0..10.0 => 2,
        0.1..1.0 => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Report {
        let host = Host {
            processor: "A CPU".into(),
            processors: 2,
            load: 0.5,
        };
        let mut report = Report::new(host, Some("7.3".into()), Some("0123abcd".into()));
        report.extend(vec![
            Measurement::new("copies", "memcpy", 10.0, "GB/s"),
            Measurement::new("copies", "of memcpy", 24.5, "%")
                .compared_with("memcpy")
                .required(Bound::AtLeast(25.0)),
            Measurement::new("memory", "all", 1_234_567.0, "B").required(Bound::AtMost(2e6)),
        ]);
        report
    }

    #[test]
    fn the_table_has_groups_and_verdicts() {
        let expected = "\
rust-tph bench · A CPU, 2 processors, load 0.5 · Linux 7.3

copies
  memcpy           10.0 GB/s
  of memcpy        24.5 % (memcpy), required at least 25: not met

memory
  all           1234567 B, required at most 2000000: met
";
        assert_eq!(report().table(Style::default()), expected);
    }

    #[test]
    fn the_json_is_as_described() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        let host = json!({"processor": "A CPU", "processors": 2, "load": 0.5});
        assert_eq!(json["host"], host);
        assert_eq!(json["kernel"], "7.3");
        assert_eq!(json["inputs"], "0123abcd");
        let first = json!({"group": "copies", "name": "memcpy", "value": 10.0, "unit": "GB/s"});
        assert_eq!(json["measurements"][0], first);
        let second = &json["measurements"][1];
        assert_eq!(second["compared_with"], "memcpy");
        assert_eq!(second["required"], json!({"at_least": 25.0, "met": false}));
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let numbers = [0.0, 0.0625, 0.5, 1.0, 12.34, 99.96, 123.4, 12345.6].map(number);
        let expected = [
            "0", "0.0625", "0.500", "1.00", "12.3", "100.0", "123", "12346",
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn the_host_is_what_proc_says() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: A CPU\n"), "A CPU");
        assert!((load("1.25 0 0 1/2 3\n") - 1.25).abs() < 1e-9);
        assert!(Host::of_now().processors > 0);
    }
}
