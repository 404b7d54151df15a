// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel under test: a build directory that virtme-ng can run.

use std::fs;
use std::path::{Path, PathBuf};

/// A kernel build directory, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    dir: PathBuf,
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
        let dir = fs::canonicalize(dir).map_err(|_| KernelError::NotBuilt {
            dir: dir.into(),
            missing: Self::IMAGE,
        })?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
        match dir.to_str() {
            Some(text) if text.chars().all(plain) => Ok(Self { dir }),
            _ => Err(KernelError::Path(dir)),
        }
    }

    const IMAGE: &str = "arch/x86/boot/bzImage";

    /// The build directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kernel image.
    pub fn image(&self) -> PathBuf {
        self.dir.join(Self::IMAGE)
    }

    /// The release that the build recorded (`uname -r`), if it did.
    pub fn release(&self) -> Option<String> {
        let file = self.dir.join("include/config/kernel.release");
        Some(fs::read_to_string(file).ok()?.trim().to_owned())
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
    fn a_path_that_a_shell_would_split_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("my kernel");
        build(&dir);
        assert!(matches!(Kernel::at(&dir), Err(KernelError::Path(_))));
    }
}
