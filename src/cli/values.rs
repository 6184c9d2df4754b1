//! What command lines are made of: addresses, durations, sizes, and values of any bytes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::failure::Failure;
use crate::addresses::{Addresses, AddressesError};
use crate::types::{GroupId, NodeId};

/// The members of a group, `HOST:PORT,HOST:PORT,…`; the n-th one is node n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster(Addresses);

impl FromStr for Cluster {
    type Err = AddressesError;

    fn from_str(text: &str) -> Result<Self, AddressesError> {
        text.parse().map(Self)
    }
}

impl From<Addresses> for Cluster {
    fn from(addresses: Addresses) -> Self {
        Self(addresses)
    }
}

impl Cluster {
    /// Of addresses that are known to be good.
    pub(super) fn of(addresses: impl Iterator<Item = SocketAddr>) -> Self {
        let addresses = addresses.map(|address| address.to_string()).collect();
        Self(Addresses::new(addresses).expect("different addresses with ports"))
    }

    /// Looks up the hosts' names. A name that has several addresses counts with its first one.
    pub(super) fn resolve(&self) -> Result<BTreeMap<NodeId, SocketAddr>, Failure> {
        self.resolve_flag("--cluster")
    }

    /// The same, of the flag with this name.
    pub(super) fn resolve_flag(&self, flag: &str) -> Result<BTreeMap<NodeId, SocketAddr>, Failure> {
        let mut nodes = BTreeMap::new();
        for (place, address) in self.0.as_slice().iter().enumerate() {
            let found = address.to_socket_addrs().map(|mut found| found.next());
            let reason = match found {
                Ok(Some(found)) => {
                    nodes.insert(NodeId(place as u64 + 1), found);
                    continue;
                }
                Ok(None) => "the name has no address".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(Failure::usage(format!("{flag}: {address}: {reason}")));
        }
        Ok(nodes)
    }
}

impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// `10s`, `300ms`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 10s, 300ms or 2m"))
}

/// Milliseconds of a duration that must not be zero.
pub(super) fn positive_ms(text: &str) -> Result<u64, String> {
    let ms = u64::try_from(duration(text)?.as_millis()).map_err(|_| "too long".to_owned())?;
    if ms == 0 { Err("it must be at least 1ms".to_owned()) } else { Ok(ms) }
}

/// `300ms..600ms`.
pub(super) fn range_ms(text: &str) -> Result<(u64, u64), String> {
    let (low, high) = text.split_once("..").ok_or("write it like 300ms..600ms")?;
    Ok((positive_ms(low)?, positive_ms(high)?))
}

/// A group's number; 0 is nobody.
pub(super) fn group_id(text: &str) -> Result<GroupId, String> {
    match text.parse() {
        Ok(0) => Err("group 0 is nobody; the first group may be 1".to_owned()),
        Ok(group) => Ok(GroupId(group)),
        Err(_) => Err("it should be a number, 1 or more".to_owned()),
    }
}

/// `1048576`, `64KiB`, `1MiB`.
pub(super) fn byte_count(text: &str) -> Result<usize, String> {
    let size = bytesize::ByteSize::from_str(text).map_err(|_| "write it like 4096, 64KiB or 1MiB")?;
    usize::try_from(size.as_u64()).map_err(|_| "too large".to_owned())
}

/// Bytes from pairs of hexadecimal digits.
pub(super) fn parse_hex(text: &str) -> Result<Bytes, String> {
    let text = text.trim();
    if !text.len().is_multiple_of(2) {
        return Err(format!("{} hexadecimal digits; two make one byte", text.len()));
    }
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| !digits.starts_with('+'));
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.map(Bytes::from).ok_or_else(|| format!("{text:?} is not hexadecimal"))
}

/// Bytes as hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key or value from the command line, in hexadecimal if `hex`.
pub(super) fn argument(name: &str, text: &str, hex: bool) -> Result<Bytes, Failure> {
    if hex {
        parse_hex(text).map_err(|reason| Failure::usage(format!("{name}: {reason}")))
    } else {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ValueSource {
    /// Read the value from this file, any bytes, instead of from the command line.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Values on the command line are hexadecimal (files and standard input are always bytes as they are).
    #[arg(long)]
    pub hex: bool,
}

impl ValueSource {
    /// The value: of the file, of standard input if the argument is `-`, or the argument itself.
    pub(super) fn read(&self, text: Option<&str>) -> Result<Bytes, Failure> {
        match (text, &self.file) {
            (Some(_), Some(_)) => Err(Failure::usage("a VALUE and a --file are too much; give one of them")),
            (None, None) => {
                Err(Failure::usage("no VALUE: give one, or - for standard input, or --file PATH"))
            }
            (Some("-"), None) => {
                let mut value = Vec::new();
                let read = std::io::stdin().lock().read_to_end(&mut value);
                read.map_err(|error| Failure::from_io("reading the value from standard input", &error))?;
                Ok(value.into())
            }
            (Some(text), None) => argument("VALUE", text, self.hex),
            (None, Some(path)) => std::fs::read(path).map(Bytes::from).map_err(|error| {
                Failure::from_io(format_args!("reading the value from {}", path.display()), &error)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_lists_of_different_addresses() {
        let cluster: Cluster = "127.0.0.1:1, [::1]:2".parse().unwrap();
        assert_eq!(cluster.to_string(), "127.0.0.1:1,[::1]:2");
        assert_eq!(cluster.resolve().unwrap()[&NodeId(2)], "[::1]:2".parse().unwrap());
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(parse_hex(&to_hex(&bytes)).unwrap(), bytes);
        assert_eq!(parse_hex("").unwrap(), "");
        for bad in ["0", "0g", "+1", "é"] {
            assert!(parse_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(range_ms("300ms..1s"), Ok((300, 1000)));
        assert!(range_ms("300ms").is_err() && positive_ms("0s").is_err() && positive_ms("10").is_err());
        assert_eq!((byte_count("64KiB"), byte_count("100")), (Ok(65536), Ok(100)));
        assert!(byte_count("many").is_err());
    }
}
