// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the processors of a guest that hangs are doing, as QEMU's monitor tells it.

use crate::kernel::Kernel;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in a run's directory with all registers.
pub const REGISTERS_FILE: &str = "registers.txt";

/// A QEMU that does not answer hangs, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// The socket in `dir` of a monitor that nobody uses as long as the guest does well.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("hang.sock")
}

/// Removes what an earlier run left in `out`.
pub fn clear(out: &Path) -> io::Result<()> {
    match fs::remove_file(out.join(REGISTERS_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Asks QEMU for the registers of all processors, leaves them in `out`, and says in one line where the
/// processors are.
pub fn describe(socket: &Path, kernel: &Kernel, out: &Path) -> io::Result<String> {
    let registers = registers(socket)?;
    fs::write(out.join(REGISTERS_FILE), &registers)?;
    // A kernel without its symbols is told by its addresses.
    let symbols = fs::read_to_string(kernel.dir().join("System.map")).unwrap_or_default();
    whereabouts(&registers, &symbols).ok_or_else(|| io::Error::other("it knows of no processor"))
}

fn registers(socket: &Path) -> io::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answers = BufReader::new(&stream);
    let mut greeting = String::new();
    answers.read_line(&mut greeting)?;
    ask(
        &stream,
        &mut answers,
        &json!({"execute": "qmp_capabilities"}),
    )?;
    let command = json!({
        "execute": "human-monitor-command",
        "arguments": {"command-line": "info registers -a"},
    });
    let answer = ask(&stream, &mut answers, &command)?;
    Ok(answer.as_str().unwrap_or_default().replace('\r', ""))
}

/// The answer to a command; events may come before it.
fn ask(mut stream: &UnixStream, answers: &mut impl BufRead, command: &Value) -> io::Result<Value> {
    writeln!(stream, "{command}")?;
    loop {
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let mut answer: Value = serde_json::from_str(&line)?;
        if let Some(answer) = answer.get_mut("return") {
            return Ok(answer.take());
        }
        if let Some(error) = answer.get("error") {
            return Err(io::Error::other(error.to_string()));
        }
    }
}

/// `CPU 0 in default_idle+0xf, halted; CPU 1 in multi_cpu_stop+0x52`: `registers` are as QEMU prints
/// them, `symbols` as in System.map. None if there is no processor.
fn whereabouts(registers: &str, symbols: &str) -> Option<String> {
    let mut processors = Vec::new();
    let mut cpu = "?";
    for line in registers.lines() {
        if let Some(number) = line.strip_prefix("CPU#") {
            cpu = number.trim();
        }
        let Some(rip) = field(line, "RIP=") else {
            continue;
        };
        let halted = match field(line, "HLT=") {
            Some("1") => ", halted",
            _ => "",
        };
        processors.push(format!("CPU {cpu} in {}{halted}", symbol(rip, symbols)));
    }
    (!processors.is_empty()).then(|| processors.join("; "))
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name))
}

/// The symbol with the highest address that is not above `rip`.
fn symbol(rip: &str, symbols: &str) -> String {
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let Some(rip_number) = number(rip) else {
        return rip.to_owned();
    };
    symbols
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let address = number(words.next()?)?;
            let is_code = matches!(words.next()?, "t" | "T");
            (is_code && address <= rip_number).then_some((address, words.next()?))
        })
        .max_by_key(|&(address, _)| address)
        .map_or(rip.to_owned(), |(address, name)| {
            format!("{name}+{:#x}", rip_number - address)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    const SYMBOLS: &str = "\
ffffffff81000000 T _text
ffffffff81001000 t multi_cpu_stop
ffffffff81002000 T default_idle
ffffffff82000000 D some_data
";
    const REGISTERS: &str = "
CPU#0
RAX=0000000000000000 RBX=0000000000000000
RIP=ffffffff8100200f RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CPU#1
RIP=ffffffff81001052 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
";

    #[test]
    fn processors_are_where_the_symbols_say() {
        assert_eq!(
            whereabouts(REGISTERS, SYMBOLS).unwrap(),
            "CPU 0 in default_idle+0xf, halted; CPU 1 in multi_cpu_stop+0x52"
        );
    }

    #[test]
    fn without_symbols_addresses_are_told() {
        assert_eq!(
            whereabouts(REGISTERS, "").unwrap(),
            "CPU 0 in ffffffff8100200f, halted; CPU 1 in ffffffff81001052"
        );
        assert_eq!(whereabouts("", SYMBOLS), None);
        assert_eq!(whereabouts("RIP=zz", SYMBOLS).unwrap(), "CPU ? in zz");
    }

    /// A monitor that gives these answers, after its greeting.
    fn monitor(answers: &'static [&'static str]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = socket(dir.path());
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            writeln!(stream, r#"{{"QMP": {{}}}}"#).unwrap();
            let mut asked = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                asked.next();
                writeln!(stream, "{answer}").unwrap();
            }
        });
        (dir, path)
    }

    #[test]
    fn the_monitor_is_asked() {
        let (_dir, path) = monitor(&[
            r#"{"return": {}}"#,
            "{\"event\": \"STOP\"}\n{\"return\": \"CPU#0\\r\\nRIP=1\\r\\n\"}",
        ]);
        assert_eq!(registers(&path).unwrap(), "CPU#0\nRIP=1\n");
    }

    #[test]
    fn a_monitor_that_refuses_or_is_gone_is_an_error() {
        let (_dir, path) = monitor(&[r#"{"return": {}}"#, r#"{"error": {"desc": "no"}}"#]);
        assert!(registers(&path).unwrap_err().to_string().contains("no"));
        let (_dir, path) = monitor(&[]);
        assert!(registers(&path).is_err());
        assert!(registers(Path::new("/nowhere")).is_err());
    }
}
