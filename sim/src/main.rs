//! `eraft-sim`: the simulator's command line. Run it as `cargo sim …`.

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    eraft_sim::cli::main(eraft_sim::world::run)
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "eraft-sim: built without the simulator (no `--cfg madsim`): run it as `cargo sim …`, with RUSTFLAGS unset"
    );
    std::process::ExitCode::from(70)
}
