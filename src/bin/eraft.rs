//! The one binary: servers, clients and operator commands. Everything is in [`eraft::cli`].

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eraft::cli::main()
}

/// The real storage and the real network are compiled out of the simulator's build.
#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    eprintln!("eraft: this binary was built for the simulator (--cfg madsim); build it without that flag");
    std::process::ExitCode::from(70)
}
