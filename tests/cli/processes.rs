//! The process round a node. Some of it can only be seen from outside of a process that does something wrong on
//! purpose; this test's own binary is that process, started again with a variable that says what to do.

use std::process::{Command, Stdio};

use eraft::server::{panics, shutdown::Signals};

use crate::support::{Server, run};

const PURPOSE: &str = "CLI_TEST_PURPOSE";

fn again(purpose: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["processes::on_purpose", "--exact", "--nocapture"]).env(PURPOSE, purpose);
    command.stdin(Stdio::null());
    command
}

/// Does nothing in a normal run.
#[test]
fn on_purpose() {
    let Ok(purpose) = std::env::var(PURPOSE) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    panics::exit_on_panic();
    match &purpose[..] {
        "panic in a task" => {
            runtime.spawn(async { panic!("two\nlines") });
        }
        "panic in a thread" => {
            std::thread::spawn(|| panic!("of a thread"));
        }
        _ => runtime.block_on(async {
            let signals = Signals::catch().unwrap();
            println!("\nready");
            signals.first().await;
            println!("stopping");
            std::future::pending::<()>().await
        }),
    }
    std::thread::sleep(crate::support::PATIENCE);
}

#[test]
fn a_panic_anywhere_ends_the_process_with_70() {
    let said = run(&mut again("panic in a task"));
    said.failed(70, &["internal error at ", "processes.rs:", "two lines", "this is a bug"]);
    run(&mut again("panic in a thread")).failed(70, &["of a thread"]);
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (mut process, _) = Server::start(&mut again("signals"));
    while process.line() != "ready" {}
    process.signal(libc::SIGTERM);
    while process.line() != "stopping" {}
    process.signal(libc::SIGINT);
    assert_eq!(process.wait().code(), Some(128 + libc::SIGINT));
}
