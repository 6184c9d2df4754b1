//! A panic in any task or thread ends the process: tokio would end the task alone, and a node whose driver is gone
//! but whose port still answers is worse than a node that is down.

use std::io::Write as _;

/// An internal error of the tool itself, by its exit code.
pub const INTERNAL_ERROR: i32 = 70;

/// Installs the hook. The message is one line on standard error.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("a panic without a message").replace('\n', " ");
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let _ = writeln!(
            std::io::stderr(),
            "eraft: internal error at {place}: {message}; this is a bug, please report it with this line"
        );
        exit_now(INTERNAL_ERROR);
    }));
}

/// Ends the process without destructors: other threads may be inside LevelDB, whose statics must stay.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}
