// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configurations with which each patch is built.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A configuration, made of that of the guest's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionSet {
    /// All that it has as modules is built in.
    BuiltIn,
    /// As it is.
    Modules,
    /// Without what the series adds, and without TPH in the PCI core, so that the stubs are what is
    /// used.
    Without,
}

impl OptionSet {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BuiltIn, Self::Modules, Self::Without];

    /// The fragment of a configuration that says so. `config` is that of the guest's kernel,
    /// `added` are the symbols that the series adds.
    pub fn fragment(self, config: &str, added: &[String]) -> String {
        let line = |line: &str| format!("{line}\n");
        match self {
            Self::Modules => config.lines().map(line).collect(),
            Self::BuiltIn => config
                .lines()
                .map(|text| match text.strip_suffix("=m") {
                    Some(symbol) => format!("{symbol}=y\n"),
                    None => line(text),
                })
                .collect(),
            Self::Without => {
                let mut off = vec!["CONFIG_PCIE_TPH"];
                off.extend(added.iter().map(String::as_str));
                let is_off = |text: &&str| off.iter().any(|&symbol| names(text, symbol));
                let kept = config.lines().filter(|text| !is_off(text)).map(line);
                let unset = off.iter().map(|symbol| format!("# {symbol} is not set\n"));
                kept.chain(unset).collect()
            }
        }
    }
}

impl fmt::Display for OptionSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::BuiltIn => "y",
            Self::Modules => "m",
            Self::Without => "n",
        })
    }
}

/// Whether a line of a configuration gives `symbol` a value.
fn names(line: &str, symbol: &str) -> bool {
    line.strip_prefix(symbol)
        .is_some_and(|rest| rest.starts_with('='))
}

/// The symbol of each line that has one, with its value; `n` if it is not set.
pub fn symbols(config: &str) -> BTreeMap<&str, &str> {
    config
        .lines()
        .filter_map(|line| match line.strip_prefix("# ") {
            Some(rest) => Some((rest.strip_suffix(" is not set")?, "n")),
            None => line.split_once('='),
        })
        .filter(|(symbol, _)| symbol.starts_with("CONFIG_"))
        .collect()
}

/// What `config` has not got of `fragment`, of the symbols that the kernel knows. A driver that can
/// only be a module is one where it was to be built in.
pub fn missing(config: &str, fragment: &str, known: &BTreeSet<String>) -> Vec<String> {
    let got = symbols(config);
    symbols(fragment)
        .into_iter()
        .filter(|&(symbol, wanted)| {
            let is = got.get(symbol).copied().unwrap_or("n");
            known.contains(symbol) && is != wanted && (wanted, is) != ("y", "m")
        })
        .map(|(symbol, wanted)| format!("{symbol}={wanted}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "# A comment\nCONFIG_PCI=y\nCONFIG_PCIE_TPH=y\nCONFIG_OURS=m\nCONFIG_OURS_TOO=m\n# CONFIG_OFF is not set\n";

    #[test]
    fn the_sets_differ_in_modules_and_in_what_is_new() {
        let fragment = |set: OptionSet| set.fragment(CONFIG, &["CONFIG_OURS".into()]);
        assert_eq!(fragment(OptionSet::Modules), CONFIG);
        assert!(fragment(OptionSet::BuiltIn).contains("\nCONFIG_OURS=y\nCONFIG_OURS_TOO=y\n"));
        assert_eq!(
            fragment(OptionSet::Without),
            "# A comment\nCONFIG_PCI=y\nCONFIG_OURS_TOO=m\n# CONFIG_OFF is not set\n\
             # CONFIG_PCIE_TPH is not set\n# CONFIG_OURS is not set\n"
        );
    }

    #[test]
    fn a_symbol_that_was_dropped_is_named() {
        let known = ["CONFIG_A", "CONFIG_B", "CONFIG_C"]
            .map(str::to_owned)
            .into();
        let fragment = "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_LATER=y\n";
        let is = |config: &str| missing(config, fragment, &known);
        assert_eq!(is("CONFIG_A=y\nCONFIG_B=m\n"), [""; 0]);
        // Only a module: that is its nature.
        assert_eq!(is("CONFIG_A=m\nCONFIG_B=m\n"), [""; 0]);
        assert_eq!(
            is("CONFIG_B=y\nCONFIG_C=y\n"),
            ["CONFIG_A=y", "CONFIG_B=m", "CONFIG_C=n"]
        );
    }
}
