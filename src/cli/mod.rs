//! The command line: every command, its flags, and the process round it.
//!
//! A contract that scripts rely on: exit codes (`failure.rs`), the fields of JSON output, one line on standard
//! error for a failure, and `ERAFT_<FLAG>` in the environment for every flag.

mod bench;
mod client;
mod data;
mod failure;
mod member;
mod output;
mod placement;
mod scan;
mod serve;
mod status;
mod target;
mod up;
mod values;

use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::server::logging::{self, LogFormat};
use crate::server::panics;
use failure::{Code, Failure};
use output::{Format, Output};

const EXAMPLES: &str = "Examples:
  eraft up                                      a sharded cluster on this machine
  export ERAFT_CTRLERS=127.0.0.1:5001,127.0.0.1:5002,127.0.0.1:5003
  eraft put greeting hello && eraft get greeting
  eraft status

Every flag may also come from the environment, as ERAFT_<FLAG>.
Exit codes: 0 done, 1 refused or not found, 2 wrong usage, 3 unavailable and certainly not executed,
4 outcome unknown, 5 unhealthy, 70 a bug in this program.";

/// A strongly consistent key-value store.
#[derive(Debug, Parser)]
#[command(name = "eraft", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// The form of the output [default: table at a terminal, plain elsewhere].
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// What to log to standard error: error, warn, info, debug, trace or off [default: info for servers, else
    /// error].
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The form of log lines.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node of a cluster.
    #[command(subcommand)]
    Serve(serve::Serve),
    /// Start a whole cluster on this machine; Ctrl-C stops it in order.
    #[command(after_help = "Examples:
  eraft up                               three controllers, and two groups of three
  eraft up --groups 3 --shards 64 --data /tmp/three --port-base 7001
  eraft up --single                      one group without controllers, for ERAFT_CLUSTER

Data stays in --data and is used again the next time, with the groups that have joined; groups that are new join.
The nodes' logs are there too: ctrler/n1.log, g100/n1.log, ….
A node that ends is reported and not started again; the cluster goes on without it.
Exit codes: 0 stopped by a signal, 2 --data holds a group that would not be started, 3 a port is in use or the
cluster does not serve in time, 5 all nodes ended.")]
    Up(up::Up),
    #[command(flatten)]
    Placement(placement::Placement),
    /// Show every node: its role, term, progress and size.
    #[command(after_help = "Examples:
  eraft status
  eraft status --list-shards
  eraft status -o json | jq '.nodes[] | select(.online | not)'

SHARDS are those that the node serves, and then those that are on their way: Pulling (they arrive), BePulling (they
are fetched by another group), GCing and Deleting (what another group has now is cleaned up). LAG is how many committed entries a node has not applied yet. Exit code 3 if no node answers.")]
    Status(status::StatusArgs),
    /// The group's members and its leader.
    #[command(subcommand)]
    Member(member::Member),
    /// Print the value of a key.
    #[command(after_help = "Examples:
  eraft get greeting
  eraft get picture > picture.png        exactly the bytes of the value
  eraft get --hex flags
  eraft get greeting -o json             {\"key\":\"greeting\",\"found\":true,\"value\":\"hello\"}

A key that does not exist is exit code 1; an empty value prints nothing and is exit code 0.")]
    Get(data::Get),
    /// Set a key.
    #[command(after_help = "Examples:
  eraft put greeting hello
  eraft put picture --file picture.png
  date | eraft put now -
  eraft put --hex flags ff00")]
    Put(data::Put),
    /// Add to the end of a key's value; creates the key if it does not exist.
    #[command(after_help = "Examples:
  eraft append log 'one more line'
  eraft append log --file more.txt")]
    Append(data::Put),
    /// Remove a key; exit code 1 if it does not exist.
    #[command(after_help = "Examples:
  eraft delete greeting")]
    Delete(data::Delete),
    /// Set a key if it holds OLD; exit code 1 if it does not.
    #[command(
        override_usage = "eraft cas [OPTIONS] --ctrlers <A,B,C> <KEY> <OLD> <NEW>\n       \
                          eraft cas [OPTIONS] --ctrlers <A,B,C> --absent <KEY> <NEW>",
        after_help = "Examples:
  eraft cas counter 1 2
  eraft cas lock --absent me             only if there is no such key
  eraft cas page OLD --file new.html"
    )]
    Cas(data::Cas),
    /// List keys and values.
    #[command(after_help = "Examples:
  eraft scan --prefix user: --limit 100
  eraft scan --hex                       for keys and values of any bytes
  eraft scan -o json | jq -r .key        one object a line

A line is KEY, a tab, VALUE; control characters are escaped there. The list is read page by page while others write:
each page is true at one moment for each of its shards, the whole need not be.")]
    Scan(scan::Scan),
    /// Measure throughput and latency.
    #[command(after_help = "Examples:
  eraft bench --clients 50 --seconds 10
  eraft bench --mix get=90,put=10 --zipf 0.99 --keys 100000 --value-bytes 1KiB
  eraft bench --clients 5 --keys 5 --history run.jsonl && eraft-check run.jsonl

Ctrl-C ends it early and reports what was measured. Exit code 3 or 4 if no operation was answered.")]
    Bench(bench::Bench),
    /// Print a script that completes commands and flags in a shell.
    #[command(after_help = "Examples:
  eraft completion bash > /etc/bash_completion.d/eraft
  eraft completion zsh > ~/.zfunc/_eraft
  eraft completion fish > ~/.config/fish/completions/eraft.fish")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    panics::exit_on_panic();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), Failure> {
    let Some(cli) = parse()? else { return Ok(()) };
    let is_server = matches!(cli.command, Command::Serve(_));
    let level = cli.log_level.as_deref().unwrap_or(if is_server { "info" } else { "error" });
    logging::start(level, cli.log_format)
        .map_err(|reason| Failure::usage(format!("--log-level {level}: {reason}")))?;
    let output = Output::new(cli.output);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(Code::Internal, format!("starting the runtime: {error}")))?;
    runtime.block_on(execute(cli.command, output))
}

async fn execute(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Serve(serve::Serve::Kv(serve)) => serve.run(output).await,
        Command::Serve(serve::Serve::Ctrler(serve)) => serve.run(output).await,
        Command::Serve(serve::Serve::Shard(serve)) => serve.run(output).await,
        Command::Up(up) => up.run(output).await,
        Command::Placement(placement) => placement.run(output).await,
        Command::Status(status) => status.run(output).await,
        Command::Member(member) => member.run(output).await,
        Command::Get(get) => get.run(output).await,
        Command::Put(put) => put.put(output).await,
        Command::Append(append) => append.append(output).await,
        Command::Delete(delete) => delete.run(output).await,
        Command::Cas(cas) => cas.run(output).await,
        Command::Scan(scan) => scan.run(output).await,
        Command::Bench(bench) => bench.run(output).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "eraft", &mut script);
            output.bytes(&script)
        }
    }
}

/// The command line; `None` if it asked for help or the version, which is printed.
fn parse() -> Result<Option<Cli>, Failure> {
    let parsed = with_environment(Cli::command())
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => Ok(Some(cli)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // A reader that has gone away is no failure.
                let _ = error.print();
                Ok(None)
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = error.print();
                Err(Failure::usage(""))
            }
            _ => Err(Failure::from_clap(&error)),
        },
    }
}

/// Lets every long flag of `command` and its subcommands come from `ERAFT_<FLAG>`.
fn with_environment(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = command.mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
        if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
            return arg;
        }
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let arg = arg.env(format!("ERAFT_{}", long.replace('-', "_").to_uppercase())).hide_env_values(true);
        if is_switch { arg.value_parser(BoolishValueParser::new()) } else { arg }
    });
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_environment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command) {
        for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
            let long = arg.get_long().unwrap();
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
            if !["help", "version"].contains(&long) {
                let expected = format!("ERAFT_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(variable.as_deref(), Some(&expected[..]), "{} --{long}", command.get_name());
            }
        }
        let is_leaf = command.get_subcommands().next().is_none();
        let helped = command.get_after_help().is_some_and(|help| help.to_string().contains("Examples:"));
        assert!(!is_leaf || helped, "{} has no examples", command.get_name());
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn every_flag_has_its_variable_and_every_command_its_examples() {
        let command = with_environment(Cli::command());
        command.clone().debug_assert();
        check(&command);
    }
}
