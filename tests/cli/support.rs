//! Runs the built binary, in directories and on ports of a test's own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Everything here is far faster; this is for a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary with no `ERAFT_…` of the environment.
pub fn eraft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eraft"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ERAFT_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Said {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It failed with `code` and one line that contains all of `words`.
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "one line: {self:?}");
        assert!(self.err.starts_with("eraft: "), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {self:?}");
        }
    }

    /// It succeeded and printed `out`.
    pub fn printed(&self, out: &str) {
        assert_eq!((self.code, self.text(), &self.err[..]), (Some(0), out, ""), "{self:?}");
    }
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Said {
    let output = command.output().expect("the binary starts");
    let err = String::from_utf8(output.stderr).expect("messages are text");
    Said { code: output.status.code(), out: output.stdout, err }
}

/// Runs `command` with `input` on its standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    child.stdin.take().expect("piped").write_all(input).expect("it reads its input");
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8(output.stderr).expect("messages are text");
    Said { code: output.status.code(), out: output.stdout, err }
}

/// Ports that are free now and that no outgoing connection takes, `count` in a row.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    for _ in 0..1_000 {
        let first = 20_000 + (start - 20_000 + NEXT.fetch_add(count, Ordering::Relaxed)) % 12_000;
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no free ports");
}

/// `127.0.0.1:P,127.0.0.1:P+1,…`
pub fn addresses(first: u16, count: u16) -> String {
    (first..first + count).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

/// A process that serves; it is killed when the test is over.
pub struct Server {
    pub child: Child,
    pub out: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts `command` and waits for the line that says that it is ready; returns that too.
    pub fn start(command: &mut Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut server = Self { child, out };
        let line = server.line();
        (server, line)
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        if line.is_empty() {
            panic!("it ended without a line: {}", self.rest_of_stderr());
        }
        line.trim_end().to_owned()
    }

    pub fn rest_of_stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
        text
    }

    pub fn signal(&self, signal: i32) {
        kill(self.child.id(), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: kill has no preconditions; the process is a child, or a child's child, that was not waited for.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// A cluster of one node.
pub struct Single {
    pub server: Server,
    pub port: u16,
}

impl Single {
    pub fn start(db: &Path) -> Self {
        Self::start_at(db, free_ports(1))
    }

    pub fn start_at(db: &Path, port: u16) -> Self {
        let (server, line) = Server::start(&mut serve(1, &addresses(port, 1), db));
        assert!(line.starts_with(&format!("n1 listens on 127.0.0.1:{port} ")), "{line}");
        Self { server, port }
    }

    /// The binary, about to talk to this cluster.
    pub fn eraft(&self, arguments: &[&str]) -> Command {
        let mut command = eraft();
        command.args(arguments).env("ERAFT_CLUSTER", addresses(self.port, 1));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.eraft(arguments))
    }
}

pub fn serve(id: u64, cluster: &str, db: &Path) -> Command {
    serve_as("kv", id, cluster, db)
}

/// The binary, about to serve as `service`.
pub fn serve_as(service: &str, id: u64, cluster: &str, db: &Path) -> Command {
    let mut command = eraft();
    command.args(["serve", service, "--id", &id.to_string(), "--cluster", cluster, "--db"]).arg(db);
    command
}

/// Three controllers.
pub struct Ctrlers {
    /// They end with this.
    _servers: Vec<Server>,
    pub addresses: String,
}

impl Ctrlers {
    pub fn start(db: &Path) -> Self {
        Self::start_at(db, free_ports(3))
    }

    pub fn start_at(db: &Path, port: u16) -> Self {
        let addresses = addresses(port, 3);
        let start = |id| {
            let (server, line) = Server::start(&mut serve_as("ctrler", id, &addresses, db));
            assert!(line.starts_with(&format!("n{id} listens on ")), "{line}");
            server
        };
        Self { _servers: (1..=3).map(start).collect(), addresses }
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        run(eraft().args(arguments).env("ERAFT_CTRLERS", &self.addresses))
    }
}
