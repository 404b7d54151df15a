// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel under test: a build directory that virtme-ng can run.

use std::fs;
use std::path::{Path, PathBuf};

/// A kernel build directory, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    dir: PathBuf,
    /// Its `.config`.
    config: String,
}

/// Why a directory is no kernel that can be run.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file that every build leaves is not there.
    #[error("{} is not a built kernel: it has no {missing}; build it first (`make demo` does) or give --kernel a build directory", .dir.display())]
    NotBuilt {
        /// The directory.
        dir: PathBuf,
        /// The first file that is missing.
        missing: &'static str,
    },
    /// virtme-ng hands the path to a shell without quoting it.
    #[error("{} cannot be used by virtme-ng: the path may hold letters, digits and `/._+-` only; move the build", .0.display())]
    Path(PathBuf),
}

impl Kernel {
    /// Checks that `dir` holds a kernel image, its configuration and its list of modules.
    pub fn at(dir: &Path) -> Result<Self, KernelError> {
        for missing in [Self::IMAGE, ".config", "modules.order"] {
            if !dir.join(missing).is_file() {
                return Err(KernelError::NotBuilt {
                    dir: dir.into(),
                    missing,
                });
            }
        }
        let config = fs::read_to_string(dir.join(".config"));
        let config = config.map_err(|_| KernelError::NotBuilt {
            dir: dir.into(),
            missing: ".config",
        })?;
        let dir = fs::canonicalize(dir).map_err(|_| KernelError::NotBuilt {
            dir: dir.into(),
            missing: Self::IMAGE,
        })?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
        match dir.to_str() {
            Some(text) if text.chars().all(plain) => Ok(Self { dir, config }),
            _ => Err(KernelError::Path(dir)),
        }
    }

    const IMAGE: &str = "arch/x86/boot/bzImage";

    /// Options with which a kernel checks itself all the time, and so takes several times as long.
    const SLOW: [&str; 4] = ["PROVE_LOCKING", "DEBUG_OBJECTS", "DEBUG_KMEMLEAK", "KASAN"];

    /// The build directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kernel image.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.dir.join(Self::IMAGE)
    }

    /// The release that the build recorded (`uname -r`), if it did.
    #[must_use]
    pub fn release(&self) -> Option<String> {
        let file = self.dir.join("include/config/kernel.release");
        Some(fs::read_to_string(file).ok()?.trim().to_owned())
    }

    /// The hash of what it was built of, if `scripts/kernel` built it.
    #[must_use]
    pub fn inputs(&self) -> Option<String> {
        let inputs = fs::read_to_string(self.dir.join("inputs")).ok()?;
        Some(inputs.trim().to_owned())
    }

    /// What tells it from other kernels: its release, or else the name of the build directory.
    #[must_use]
    pub fn name(&self) -> String {
        let of_dir = || self.dir.file_name().unwrap_or_default();
        self.release()
            .unwrap_or_else(|| of_dir().to_string_lossy().into_owned())
    }

    /// Whether `option`, named without `CONFIG_`, is built in.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.has_value(option, "=y")
    }

    /// Whether `option`, named without `CONFIG_`, is a module.
    #[must_use]
    pub fn has_module(&self, option: &str) -> bool {
        self.has_value(option, "=m")
    }

    fn has_value(&self, option: &str, value: &str) -> bool {
        self.config.lines().any(|line| {
            line.strip_prefix("CONFIG_")
                .and_then(|line| line.strip_prefix(option))
                == Some(value)
        })
    }

    /// Memory that a guest needs, in MiB: 1024, or 4096 for a kernel that shadows mapped BARs, of which
    /// there are up to four with 4 GiB.
    #[must_use]
    pub fn memory_mib(&self) -> u32 {
        if self.has("KASAN_VMALLOC") {
            4096
        } else {
            1024
        }
    }

    /// What a guest's time limit is multiplied by: 1, or 4 for a kernel that checks itself.
    #[must_use]
    pub fn patience(&self) -> u32 {
        if Self::SLOW.iter().any(|option| self.has(option)) {
            4
        } else {
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(root: &Path) {
        fs::create_dir_all(root.join("arch/x86/boot")).unwrap();
        for file in [Kernel::IMAGE, ".config", "modules.order"] {
            fs::write(root.join(file), "").unwrap();
        }
    }

    #[test]
    fn a_build_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path());
        let kernel = Kernel::at(dir.path()).unwrap();
        assert!(kernel.image().ends_with("arch/x86/boot/bzImage"));
        assert_eq!(kernel.release(), None);
        assert!(kernel.dir().ends_with(kernel.name()));
        fs::create_dir_all(dir.path().join("include/config")).unwrap();
        fs::write(dir.path().join("include/config/kernel.release"), "7.3-x\n").unwrap();
        assert_eq!(kernel.name(), "7.3-x");
        assert_eq!(kernel.inputs(), None);
        fs::write(dir.path().join("inputs"), "0123abcd\n").unwrap();
        assert_eq!(kernel.inputs().unwrap(), "0123abcd");
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path());
        fs::remove_file(dir.path().join("modules.order")).unwrap();
        let error = Kernel::at(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no modules.order"), "{error}");
        let error = Kernel::at(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/nowhere is not a built kernel"), "{error}");
    }

    #[test]
    fn a_kernel_that_checks_itself_is_given_time() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path());
        let with = |config: &str| {
            fs::write(dir.path().join(".config"), config).unwrap();
            Kernel::at(dir.path()).unwrap()
        };
        let plain = with("# CONFIG_KASAN is not set\nCONFIG_KASAN_X=y\nCONFIG_KUNIT=m\n");
        assert!(!plain.has("KASAN") && !plain.has("KUNIT") && plain.has("KASAN_X"));
        assert!(plain.has_module("KUNIT") && !plain.has_module("KASAN_X"));
        assert_eq!(plain.patience(), 1);
        for option in Kernel::SLOW {
            assert_eq!(with(&format!("CONFIG_{option}=y\n")).patience(), 4);
        }
    }

    #[test]
    fn a_kernel_that_shadows_its_mappings_is_given_memory() {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path());
        assert_eq!(Kernel::at(dir.path()).unwrap().memory_mib(), 1024);
        fs::write(dir.path().join(".config"), "CONFIG_KASAN_VMALLOC=y\n").unwrap();
        assert_eq!(Kernel::at(dir.path()).unwrap().memory_mib(), 4096);
    }

    #[test]
    fn a_path_that_a_shell_would_split_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("my kernel");
        build(&dir);
        assert!(matches!(Kernel::at(&dir), Err(KernelError::Path(_))));
    }
}
