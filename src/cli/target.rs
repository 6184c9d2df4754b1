//! `--ctrlers` or `--cluster`: a sharded cluster, found through its controllers, or a single group by its own nodes.
//!
//! Both variables may be set; a flag on the command line counts more than a variable. Only two of a kind are too many,
//! and clap cannot say that, so this reads the flags by hand.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::values::Cluster;

const CTRLERS: &str = "ctrlers";
const CLUSTER: &str = "cluster";

/// Whom data commands talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The controllers of a sharded cluster.
    Ctrlers(Cluster),
    /// The nodes of the one group.
    Group(Cluster),
}

impl clap::Args for Target {
    fn augment_args(command: Command) -> Command {
        let list = |name: &'static str, help: &'static str| {
            let parser = |text: &str| text.parse::<Cluster>();
            Arg::new(name).long(name).value_name("A,B,C").value_parser(parser).help(help)
        };
        command
            .arg(list(
                CTRLERS,
                "The controllers' addresses in the order of their ids, as HOST:PORT,HOST:PORT,…",
            ))
            .arg(list(
                CLUSTER,
                "Instead of --ctrlers, if there is one group only: the addresses of its nodes",
            ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Target {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name| matches.get_one::<Cluster>(name).cloned();
        let is_flag = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let error = |kind, text: &str| Err(clap::Error::raw(kind, text));
        match (given(CTRLERS), given(CLUSTER)) {
            (Some(ctrlers), None) => Ok(Self::Ctrlers(ctrlers)),
            (None, Some(cluster)) => Ok(Self::Group(cluster)),
            (Some(ctrlers), Some(cluster)) => match (is_flag(CTRLERS), is_flag(CLUSTER)) {
                (true, false) => Ok(Self::Ctrlers(ctrlers)),
                (false, true) => Ok(Self::Group(cluster)),
                (true, true) => error(
                    ErrorKind::ArgumentConflict,
                    "--ctrlers and --cluster are too much: a cluster has controllers or is a single group",
                ),
                (false, false) => error(
                    ErrorKind::ArgumentConflict,
                    "ERAFT_CTRLERS and ERAFT_CLUSTER are both set: unset one, or give --ctrlers or --cluster",
                ),
            },
            (None, None) => error(
                ErrorKind::MissingRequiredArgument,
                "where is the cluster? --ctrlers <A,B,C> (or ERAFT_CTRLERS) is required, \
                 or --cluster <A,B,C> for a single group",
            ),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn target(arguments: &[&str]) -> Result<Target, String> {
        let command = Target::augment_args(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        Target::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_one_or_the_other() {
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(target(&["--ctrlers", "a:1"]), Ok(Target::Ctrlers(at("a:1"))));
        assert_eq!(target(&["--cluster", "a:1"]), Ok(Target::Group(at("a:1"))));
        assert!(target(&["--cluster", "a:1", "--ctrlers", "b:1"]).unwrap_err().contains("too much"));
        assert!(target(&[]).unwrap_err().contains("--ctrlers <A,B,C>"));
        assert!(target(&["--ctrlers", "a"]).unwrap_err().contains("HOST:PORT"));
    }
}
