//! The processes of `up`: started, watched, stopped.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::select_all;
use serde::Serialize;
use tokio::process::{Child, Command};

use super::super::client::surroundings;
use super::super::failure::{Code, Failure};
use super::super::serve::node_directory;
use super::layout::{Name, RaftGroup};
use crate::replica::Service;
use crate::types::GroupId;

/// A node that has not stopped by then is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// So much of the end of a log is looked at for its last lines …
const LOG_TAIL_BYTES: u64 = 4096;
/// … and so many of them are shown.
const LOG_TAIL_LINES: usize = 5;

/// The nodes, group by group, in the order in which they were started.
pub(super) struct Children {
    nodes: Vec<Node>,
}

struct Node {
    name: Name,
    address: SocketAddr,
    log: PathBuf,
    /// What starts it, for a person who wants it back.
    command: String,
    /// `None` once it has ended.
    child: Option<Child>,
}

/// A child that has ended.
pub(super) struct Ended {
    name: Name,
    status: Result<ExitStatus, String>,
    /// It was asked to stop.
    asked: bool,
    log: PathBuf,
    last_lines: Vec<String>,
    command: String,
}

/// What JSON shows of a node.
#[derive(Serialize)]
pub(super) struct Listed<'a> {
    service: &'static str,
    group: Option<GroupId>,
    id: u64,
    address: String,
    pid: Option<u32>,
    log: &'a Path,
}

impl Children {
    /// Starts one process a node. If one cannot be started, those before it end with this process.
    pub(super) fn start(groups: &[RaftGroup], data: &Path, cluster_id: &str) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Code::Internal, format!("finding this program: {error}")))?;
        let ctrlers = groups.iter().find(|group| group.service == Service::Ctrler).map(RaftGroup::cluster);
        let mut nodes = Vec::new();
        for group in groups {
            let cluster = group.cluster().to_string();
            for (id, address) in &group.nodes {
                let mut command = Command::new(&program);
                command.arg("serve").args(match group.service {
                    Service::Kv => vec!["kv".to_owned()],
                    Service::Ctrler => vec!["ctrler".to_owned()],
                    Service::Shard(gid) => {
                        let ctrlers = ctrlers.as_ref().map(ToString::to_string).unwrap_or_default();
                        ["shard", "--gid", &gid.to_string(), "--ctrlers", &ctrlers].map(str::to_owned).into()
                    }
                });
                command.args(["--id", &id.0.to_string(), "--cluster", &cluster]);
                command.args(["--cluster-id", cluster_id, "--db"]).arg(data);
                // Beside the node's directory, which is the node's own.
                let log = node_directory(data, group.service, *id).with_extension("log");
                let name = Name { service: group.service, id: *id };
                nodes.push(Node::start(name, *address, log, command)?);
            }
        }
        Ok(Self { nodes })
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.nodes.iter().filter(|node| node.child.is_some()).count()
    }

    /// Where the logs are.
    pub(super) fn logs(&self) -> String {
        let logs: Vec<_> = self.nodes.iter().map(|node| node.log.display().to_string()).collect();
        logs.join(", ")
    }

    pub(super) fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        self.nodes.iter().map(|node| {
            let (service, group) = match node.name.service {
                Service::Kv => ("kv", None),
                Service::Ctrler => ("ctrler", None),
                Service::Shard(group) => ("shard", Some(group)),
            };
            let (id, address) = (node.name.id.0, node.address.to_string());
            Listed {
                service,
                group,
                id,
                address,
                pid: node.child.as_ref().and_then(Child::id),
                log: &node.log,
            }
        })
    }

    /// Waits until the next one ends by itself; for ever if none runs. May be dropped and called again.
    pub(super) async fn next_end(&mut self) -> Ended {
        let waiting = self.nodes.iter_mut().filter_map(|node| {
            let child = node.child.as_mut()?;
            let name = node.name;
            Some(Box::pin(async move { (name, child.wait().await) }))
        });
        let waiting: Vec<_> = waiting.collect();
        if waiting.is_empty() {
            return std::future::pending().await;
        }
        let ((name, status), ..) = select_all(waiting).await;
        let node = self.nodes.iter_mut().find(|node| node.name == name).expect("only members are waited for");
        node.ended(status.map_err(|error| error.to_string()), false)
    }

    /// Stops them one after the other, so that the rest can still elect a leader and answer; the group that was
    /// started last first, and so the controllers last.
    pub(super) async fn stop_in_order(&mut self) -> Vec<Ended> {
        let mut all = Vec::new();
        for group in self.nodes.chunk_by_mut(|a, b| a.name.service == b.name.service).rev() {
            for node in group {
                all.extend(node.stop().await);
            }
        }
        all
    }
}

impl Node {
    fn start(name: Name, address: SocketAddr, log: PathBuf, mut command: Command) -> Result<Self, Failure> {
        let failed =
            |what: String, error: std::io::Error| Failure::new(Code::Unhealthy, format!("{what}: {error}"));
        if let Some(directory) = log.parent() {
            fs::create_dir_all(directory)
                .map_err(|error| failed(format!("making the directory {}", directory.display()), error))?;
        }
        let open = || -> std::io::Result<(File, File)> {
            let file = OpenOptions::new().create(true).append(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (stdout, stderr) = open().map_err(|error| failed(format!("opening {}", log.display()), error))?;
        let shown = shown(&command);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0).kill_on_drop(true);
        end_with_parent(&mut command);
        let child = command.spawn().map_err(|error| failed(format!("starting {shown}"), error))?;
        Ok(Self { name, address, log, command: shown, child: Some(child) })
    }

    /// Stops it, if it runs.
    async fn stop(&mut self) -> Option<Ended> {
        let child = self.child.as_mut()?;
        terminate(child);
        let status = match surroundings() {
            Ok(around) => around.clock.timeout(STOP_MAX, child.wait()).await,
            Err(_) => None,
        };
        let status = match status {
            Some(status) => status.map_err(|error| error.to_string()),
            None => match child.kill().await {
                Ok(()) => Err(format!("killed, it had not stopped within {} s", STOP_MAX.as_secs())),
                Err(error) => Err(format!("could not be killed: {error}")),
            },
        };
        Some(self.ended(status, true))
    }

    fn ended(&mut self, status: Result<ExitStatus, String>, asked: bool) -> Ended {
        self.child = None;
        let last_lines = last_lines(&self.log).unwrap_or_default();
        let (log, command) = (self.log.clone(), self.command.clone());
        Ended { name: self.name, status, asked, log, last_lines, command }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.name;
        match &self.status {
            Ok(status) if self.asked && status.success() => return write!(f, "{node} stopped"),
            Ok(status) => write!(f, "{node} ended: {status}")?,
            Err(reason) => write!(f, "{node}: {reason}")?,
        }
        write!(f, "; the end of {}:", self.log.display())?;
        for line in &self.last_lines {
            write!(f, "\n  {line}")?;
        }
        if !self.asked {
            write!(f, "\nThe cluster goes on without {node}. To start it again: {}", self.command)?;
        }
        Ok(())
    }
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Asks the child to stop. If it has ended already, its id is not used again before it is waited for.
fn terminate(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
        // SAFETY: kill has no preconditions; `pid` is our own child, not waited for yet.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

/// Lets the kernel stop the child when this process ends, however it ends. The signal comes when the *thread* that
/// started the child ends; that is the main thread, which runs the command.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_: &mut Command) {}

/// The last lines of a log.
fn last_lines(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let lines: Vec<String> = tail.lines().map(str::to_owned).collect();
    Ok(lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].to_vec())
}
