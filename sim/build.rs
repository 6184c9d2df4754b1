//! Tells artifacts what built the simulator: the commit, the lockfile and the compiler.
//!
//! It runs again only when sources change, and then the crate is built again anyway: a commit of documentation costs
//! nothing. Without git the commit and the lockfile are unknown, which is said so.

use std::process::Command;

fn main() {
    for path in ["src", "../src", "../proto", "../checker/src", "../Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let is_changed = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
    let commit = commit.map(|commit| if is_changed { format!("{commit} with changes") } else { commit });
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    tell("ERAFT_BUILD_COMMIT", commit);
    tell("ERAFT_BUILD_LOCKFILE", said("git", &["hash-object", "../Cargo.lock"]));
    tell("ERAFT_BUILD_RUSTC", said(&rustc, &["--version"]));
}

fn tell(name: &str, value: Option<String>) {
    println!("cargo:rustc-env={name}={}", value.as_deref().unwrap_or("unknown"));
}

/// The first line that a command prints; `None` if it fails or prints nothing.
fn said(command: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(command).args(arguments).output().ok().filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
