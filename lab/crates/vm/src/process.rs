// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program and everything that it starts, ended together.

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
    test_kill_process, test_kill_process_group, waitpgid, waitpid,
};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// How often a running process is looked at.
pub const TICK: Duration = Duration::from_millis(10);

/// How long a group may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 3000 });

/// How long a pipe is silent before nothing more is expected from it.
const SILENCE: Duration = Duration::from_secs(1);

/// A running program with its descendants. Dropping it ends them: nothing outlives its owner.
#[derive(Debug)]
pub struct Group {
    leader: Child,
    id: Pid,
    ended: Option<ExitStatus>,
    members: Members,
}

/// How the members are found.
#[derive(Debug)]
enum Members {
    /// They share a process group that is theirs alone.
    OwnGroup,
    /// They share our group, because they need our terminal; these are the ones to be ended.
    OnTerminal(Vec<Pid>),
}

impl Group {
    /// Starts `command` as the leader of a group of its own.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        Self::start(command.process_group(0), Members::OwnGroup)
    }

    /// Starts `command` in our own group, so that it may use our terminal.
    pub fn spawn_on_terminal(command: &mut Command) -> io::Result<Self> {
        Self::start(command, Members::OnTerminal(Vec::new()))
    }

    fn start(command: &mut Command, members: Members) -> io::Result<Self> {
        let leader = command.spawn()?;
        let id = pid(leader.id())
            .ok_or_else(|| io::Error::other("the kernel gave a process no number"))?;
        Ok(Self {
            leader,
            id,
            ended: None,
            members,
        })
    }

    /// Number of the leader.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.id
    }

    /// The leader and its descendants.
    #[must_use]
    pub fn tree(&self) -> Vec<Pid> {
        tree(self.id)
    }

    /// The leader's stdout, if it is a pipe and was not taken yet.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.leader.stdout.take()
    }

    /// The leader's stderr, if it is a pipe and was not taken yet.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.leader.stderr.take()
    }

    /// How the leader ended, if it did.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.leader.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits up to `limit` for the leader to end by itself.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            sleep(TICK);
        }
    }

    /// Ends every member and reaps those that are ours: first politely, then not.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Members::OnTerminal(members) = &mut self.members {
            *members = tree(self.id);
        }
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + GRACE;
        while !self.is_gone()? {
            if Instant::now() >= deadline {
                self.signal(Signal::KILL)?;
                self.ended = Some(self.leader.wait()?);
                self.reap();
                return Ok(());
            }
            sleep(TICK);
        }
        Ok(())
    }

    /// Sends `signal` to every member.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let send = |result: Result<(), Errno>| match result {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        };
        match &self.members {
            Members::OwnGroup => send(kill_process_group(self.id, signal)),
            Members::OnTerminal(members) => members
                .iter()
                .try_for_each(|&member| send(kill_process(member, signal))),
        }
    }

    fn is_gone(&mut self) -> io::Result<bool> {
        if self.ended()?.is_none() {
            return Ok(false);
        }
        self.reap();
        Ok(match &self.members {
            Members::OwnGroup => test_kill_process_group(self.id) == Err(Errno::SRCH),
            Members::OnTerminal(members) => members
                .iter()
                .all(|&member| test_kill_process(member) == Err(Errno::SRCH)),
        })
    }

    /// Reaps members whose parents died and which became our children (see
    /// [`adopt_orphans`]).
    fn reap(&self) {
        match &self.members {
            Members::OwnGroup => while let Ok(Some(_)) = waitpgid(self.id, WaitOptions::NOHANG) {},
            Members::OnTerminal(members) => {
                for &member in members {
                    // Fails for those that are not, or no longer, our children.
                    let _ = waitpid(Some(member), WaitOptions::NOHANG);
                }
            }
        }
    }
}

/// Makes this process the one that orphaned descendants come to, so that it can reap them.
pub fn adopt_orphans() -> io::Result<()> {
    set_child_subreaper(Some(getpid())).map_err(Into::into)
}

/// The lines of `pipe` as they come, without their ends. They are read in a thread, to the end, so
/// that the writer never waits for whoever takes them.
pub fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            // It does not matter whether somebody still listens.
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
    receiver
}

/// What is left of `lines` after the processes that wrote them have ended. A process that slipped
/// away may hold the pipe open for ever, so silence ends it, too.
pub fn rest(lines: &Receiver<String>) -> impl Iterator<Item = String> {
    std::iter::from_fn(|| lines.recv_timeout(SILENCE).ok())
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// `root` and all its descendants, as far as /proc shows them.
fn tree(root: Pid) -> Vec<Pid> {
    let family: Vec<(Pid, Pid)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((
                parent(&stat)?,
                pid(entry.file_name().to_str()?.parse().ok()?)?,
            ))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children = family.iter().filter(|(of, _)| *of == parent);
        found.extend(children.map(|(_, child)| child));
    }
    found
}

/// The parent in a line of /proc/PID/stat: behind the name, which may hold anything, and the state.
fn parent(stat: &str) -> Option<Pid> {
    let (_, rest) = stat.rsplit_once(") ")?;
    pid(rest.split(' ').nth(1)?.parse().ok()?)
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!(
                "lab: could not end process {} and its children: {error}",
                self.id()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn shell(script: &str) -> Group {
        Group::spawn(
            Command::new("sh")
                .args(["-c", script])
                .stdout(Stdio::piped()),
        )
        .unwrap()
    }

    fn alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    }

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (sh) S 11 10 9 0"), Pid::from_raw(11));
        assert_eq!(parent("12 (a) S 7 (b) R 11 10 9 0"), Pid::from_raw(11));
        assert_eq!(parent("12 (kthreadd) S 0 0 0 0"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn the_tree_holds_grandchildren() {
        let mut group = shell("sh -c 'sleep 1000 & echo $!; wait' & wait");
        let mut child = String::new();
        BufReader::new(group.take_stdout().unwrap())
            .read_line(&mut child)
            .unwrap();
        let tree = group.tree();
        assert_eq!(tree.len(), 3);
        assert_eq!(tree[2], pid(child.trim().parse().unwrap()).unwrap());
    }

    #[test]
    fn a_dropped_group_takes_its_children_along() {
        let mut group = shell("sleep 1000 & echo $!; wait");
        let mut child = String::new();
        BufReader::new(group.take_stdout().unwrap())
            .read_line(&mut child)
            .unwrap();
        assert!(alive(child.trim()));
        drop(group);
        assert!(!alive(child.trim()));
    }

    #[test]
    fn children_on_our_terminal_end_too() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped());
        let mut group = Group::spawn_on_terminal(&mut command).unwrap();
        let mut child = String::new();
        BufReader::new(group.take_stdout().unwrap())
            .read_line(&mut child)
            .unwrap();
        drop(group);
        assert!(!alive(child.trim()));
    }

    #[test]
    fn a_group_that_ignores_sigterm_is_killed() {
        let mut group = shell("trap '' TERM; echo up; while :; do sleep 1000; done");
        let mut up = String::new();
        BufReader::new(group.take_stdout().unwrap())
            .read_line(&mut up)
            .unwrap();
        group.stop().unwrap();
        assert!(group.ended().unwrap().is_some());
    }

    #[test]
    fn children_that_outlive_their_leader_end_too() {
        let mut group = shell("sleep 1000 & echo $!");
        let mut child = String::new();
        BufReader::new(group.take_stdout().unwrap())
            .read_line(&mut child)
            .unwrap();
        assert!(group.wait(Duration::from_secs(60)).unwrap().is_some());
        group.stop().unwrap();
        assert!(!alive(child.trim()));
    }
}
