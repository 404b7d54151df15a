// SPDX-License-Identifier: MIT OR Apache-2.0
//! ACPI tables that the guest's firmware has beside QEMU's own.

use crate::error::VmError;
use crate::log::LogTail;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tlp::{Hint, Ph, SteeringTag};

/// The source of the table with the steering tags of CPU memory.
const CPU_TAGS: &str = include_str!("cpu-tags.asl");

/// Memory that a CPU uses is nothing that firmware knows a processing hint for.
const CPU_PH: Ph = Ph::Bidirectional;

/// The hint with which a requester of 8- or 16-bit tags should write to volatile memory that `cpu` uses,
/// as that table tells it; none if it does not know it.
#[must_use]
pub fn cpu_hint(cpu: u32, extended: bool) -> Option<Hint> {
    // It does not know the 8-bit tag of CPU 2, nor the 16-bit one of CPU 3.
    let knows = match cpu {
        2 => extended,
        3 => !extended,
        _ => cpu < 16,
    };
    let cpu = u8::try_from(cpu).ok().filter(|_| knows)?;
    let tag = if extended {
        SteeringTag::Ext(0xca00 + u16::from(cpu))
    } else {
        SteeringTag::St(0xc0 + cpu)
    };
    Some(Hint { ph: CPU_PH, tag })
}

/// Compiles the table with `iasl` (of ACPICA) in `dir`; returns the compiled one.
pub fn cpu_tags(iasl: &Path, dir: &Path) -> Result<PathBuf, VmError> {
    let io =
        |what: &str, path: &Path, error| VmError::io(format!("{what} {}", path.display()), error);
    let source = dir.join("cpu-tags.asl");
    let log = dir.join("iasl.log");
    let table = dir.join("cpu-tags.aml");
    fs::write(&source, CPU_TAGS).map_err(|error| io("write", &source, error))?;
    let out = File::create(&log).map_err(|error| io("write", &log, error))?;
    let err = out.try_clone().map_err(|error| io("write", &log, error))?;
    let status = Command::new(iasl)
        .arg("-p")
        .arg(dir.join("cpu-tags"))
        .arg(&source)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .map_err(|error| VmError::Start {
            program: iasl.into(),
            error,
        })?;
    if status.success() {
        Ok(table)
    } else {
        Err(VmError::Firmware {
            status,
            log: LogTail::of(&log),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn iasl(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("iasl");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_table_is_compiled() {
        let dir = tempfile::tempdir().unwrap();
        let iasl = iasl(dir.path(), "cp \"$3\" \"$2.aml\"");
        let table = cpu_tags(&iasl, dir.path()).unwrap();
        assert_eq!(fs::read_to_string(table).unwrap(), CPU_TAGS);
    }

    #[test]
    fn a_table_that_does_not_compile_is_an_error_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let iasl = iasl(dir.path(), "echo Error 6126; exit 1");
        let error = cpu_tags(&iasl, dir.path()).unwrap_err();
        assert!(matches!(error, VmError::Firmware { .. }));
        assert!(error.to_string().contains("Error 6126"), "{error}");
    }

    #[test]
    fn a_cpu_has_tags() {
        let tag = |cpu, extended| cpu_hint(cpu, extended).map(|hint| hint.tag);
        for (cpu, st, ext) in [
            (0, Some(0xc0), Some(0xca00)),
            (1, Some(0xc1), Some(0xca01)),
            (2, None, Some(0xca02)),
            (3, Some(0xc3), None),
            (15, Some(0xcf), Some(0xca0f)),
            (16, None, None),
            (u32::MAX, None, None),
        ] {
            assert_eq!(tag(cpu, false), st.map(SteeringTag::St), "CPU {cpu}");
            assert_eq!(tag(cpu, true), ext.map(SteeringTag::Ext), "CPU {cpu}");
        }
    }

    /// The device that the table extends.
    const HOST: &str = "DefinitionBlock (\"\", \"DSDT\", 2, \"RSTTPH\", \"HOST\", 1) \
        { Scope (\\_SB) { Device (PCI0) { Name (_ADR, 0) } } }";

    /// What the table answers in ACPICA's interpreter: the bytes, in hexadecimal. `arguments` are
    /// revision, function, feature and processor.
    fn asked(dir: &Path, arguments: [u32; 4]) -> String {
        let [revision, function, feature, cpu] = arguments;
        let method = format!(
            "evaluate \\_SB.PCI0._DSM (D0 37 C9 E5 53 35 7A 4D 91 17 EA 4D 19 C3 43 4D) \
             {revision} {function:#X} [{feature} {cpu:#X} 0]"
        );
        let output = Command::new("acpiexec")
            .current_dir(dir)
            .args(["-b", &method, "host.aml", "tags.aml"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer = said
            .lines()
            .find_map(|line| line.split_once("[Buffer] Length "));
        let (_, bytes) = answer
            .and_then(|(_, rest)| rest.split_once(": "))
            .expect(&said);
        let (bytes, _) = bytes.split_once("//").unwrap_or((bytes, ""));
        bytes.trim().to_owned()
    }

    /// The answer of each memory type: which tags are valid, that of 8 bits, that of 16 bits; see
    /// union st_info in drivers/pci/tph.c.
    #[test]
    #[ignore = "needs ACPICA: `make check` runs it"]
    fn the_firmware_tells_the_tags_of_each_cpu() {
        let dir = tempfile::tempdir().unwrap();
        for (name, table) in [("host", HOST), ("tags", CPU_TAGS)] {
            let source = dir.path().join(name).with_extension("asl");
            fs::write(&source, table).unwrap();
            let mut iasl = Command::new("iasl");
            let compiled = iasl.current_dir(dir.path()).args(["-p", name]).arg(&source);
            assert!(compiled.output().unwrap().status.success(), "{name}");
        }
        for (arguments, answer) in [
            ([7, 0xf, 0, 0], "03 C0 00 CA 03 D0 00 DA"),
            ([7, 0xf, 0, 1], "03 C1 01 CA 03 D1 01 DA"),
            ([7, 0xf, 0, 0xf], "03 CF 0F CA 03 DF 0F DA"),
            // Some it does not know.
            ([7, 0xf, 0, 2], "02 C2 02 CA 01 D2 02 DA"),
            ([7, 0xf, 0, 3], "01 C3 03 CA 02 D3 03 DA"),
            ([7, 0xf, 0, 0x10], "00 00 00 00 00 00 00 00"),
            ([7, 0xf, 1, 0], "00 00 00 00 00 00 00 00"),
            // The function exists from revision 7 on.
            ([7, 0, 0, 0], "01 80"),
            ([6, 0, 0, 0], "00"),
        ] {
            assert_eq!(asked(dir.path(), arguments), answer, "{arguments:x?}");
        }
    }

    #[test]
    fn a_missing_compiler_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = cpu_tags(Path::new("/nowhere/iasl"), dir.path()).unwrap_err();
        assert!(matches!(&error, VmError::Start { program, .. } if program.ends_with("iasl")));
    }
}
