// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's monitor (QMP), from which physical memory can be read, registers of emulated devices
//! included.

use crate::vtd::Physical;
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long an answer may take: QEMU answers at once, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// A monitor; it is connected to when it is needed, since QEMU starts after the endpoints.
pub struct Monitor {
    socket: PathBuf,
    connection: Mutex<Option<Connection>>,
}

struct Connection(BufReader<UnixStream>);

impl Monitor {
    /// The monitor that listens, or will, on `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            connection: Mutex::default(),
        }
    }

    /// Executes a command of the human monitor and returns what it prints.
    fn command(&self, line: &str) -> io::Result<String> {
        // A connection whose user panicked is not used again, see below.
        let mut kept = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(&self.socket)?,
        };
        let arguments = json!({ "command-line": line });
        let answer = connection.execute("human-monitor-command", &arguments)?;
        // After an error nobody knows what the next answer would be to: it is dropped then.
        *kept = Some(connection);
        match answer {
            Value::String(text) => Ok(text),
            other => Err(unexpected(line, &other.to_string())),
        }
    }

    /// Reads the `unit` of memory at `addr`: `w` 32 bits, `g` 64 bits.
    fn examine(&self, unit: char, addr: u64) -> io::Result<u64> {
        let line = format!("xp /1x{unit} {addr:#x}");
        let text = self.command(&line)?;
        text.trim()
            .rsplit_once(": 0x")
            .and_then(|(_, digits)| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| unexpected(&line, text.trim()))
    }
}

impl Physical for Monitor {
    fn read_u32(&self, addr: u64) -> io::Result<u32> {
        u32::try_from(self.examine('w', addr)?).map_err(io::Error::other)
    }

    fn read_u64(&self, addr: u64) -> io::Result<u64> {
        self.examine('g', addr)
    }
}

impl Connection {
    fn open(socket: &PathBuf) -> io::Result<Self> {
        let context = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("monitor {}: {error}", socket.display()),
            )
        };
        let stream = UnixStream::connect(socket).map_err(context)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(context)?;
        let mut connection = Self(BufReader::new(stream));
        connection
            .execute("qmp_capabilities", &json!({}))
            .map_err(context)?;
        Ok(connection)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let message = json!({ "execute": command, "arguments": arguments });
        self.0
            .get_mut()
            .write_all(format!("{message}\n").as_bytes())?;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut message: Value = serde_json::from_str(&line)?;
            if let Some(error) = message.get("error") {
                return Err(unexpected(command, &error.to_string()));
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            // A greeting, or an event.
        }
    }
}

fn unexpected(command: &str, answer: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the monitor answers \"{command}\" with \"{answer}\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, thread};

    /// A monitor that answers each command with the next of `answers`, and then hangs up.
    fn served(
        answers: Vec<&'static str>,
    ) -> (tempfile::TempDir, Monitor, thread::JoinHandle<Vec<String>>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("monitor");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            writeln!(
                stream,
                r#"{{"QMP": {{"version": {{}}, "capabilities": []}}}}"#
            )
            .unwrap();
            let mut commands = vec![];
            for answer in answers {
                commands.push(lines.next().unwrap().unwrap());
                writeln!(stream, r#"{{"event": "RESUME"}}"#).unwrap();
                writeln!(stream, "{answer}").unwrap();
            }
            commands
        });
        (dir, Monitor::new(socket), server)
    }

    const DONE: &str = r#"{"return": {}}"#;

    #[test]
    fn memory_is_read() {
        let (_dir, monitor, server) = served(vec![
            DONE,
            r#"{"return": "00000000fed90020: 0x000000000112a000\r\n"}"#,
            r#"{"return": "00000000fed9001c: 0xc0000000\r\n"}"#,
        ]);
        assert_eq!(monitor.read_u64(0xfed9_0020).unwrap(), 0x0112_a000);
        assert_eq!(monitor.read_u32(0xfed9_001c).unwrap(), 0xc000_0000);
        let commands = server.join().unwrap();
        assert!(commands[0].contains("qmp_capabilities"));
        assert!(
            commands[1].contains("xp /1xg 0xfed90020"),
            "{}",
            commands[1]
        );
        assert!(
            commands[2].contains("xp /1xw 0xfed9001c"),
            "{}",
            commands[2]
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for answer in [
            r#"{"return": "Cannot access memory"}"#,
            r#"{"return": 7}"#,
            r#"{"error": {"class": "GenericError", "desc": "no"}}"#,
            "nonsense",
        ] {
            let (_dir, monitor, server) = served(vec![DONE, answer]);
            let error = monitor.read_u64(0).unwrap_err();
            server.join().unwrap();
            if answer != "nonsense" {
                assert!(
                    error.to_string().contains("xp /1xg 0x0")
                        || error.to_string().contains("human-monitor-command"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_monitor_that_is_gone_is_named() {
        let (dir, monitor, server) = served(vec![DONE]);
        assert!(monitor.read_u64(0).is_err(), "it hung up");
        server.join().unwrap();
        drop(dir);
        let error = monitor.read_u64(0).unwrap_err();
        assert!(error.to_string().starts_with("monitor /"), "{error}");
    }
}
