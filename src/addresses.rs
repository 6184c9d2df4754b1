//! The addresses of a group's members, as people write them: `HOST:PORT,HOST:PORT,…`.
//!
//! Invariants: there is at least one and there are at most [`ADDRESSES_MAX`]; each has a host and a port other than
//! 0; none is there twice. The n-th one is node n. Names are looked up by who connects, never here.

use std::fmt;
use std::str::FromStr;

/// Members of one group at most.
pub const ADDRESSES_MAX: usize = 15;

/// Bytes of one address at most: a name of the DNS, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 253 + 1 + 5;

/// A list of different addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addresses(Vec<String>);

/// Why a list of addresses is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressesError {
    /// There is nothing in it.
    #[error("there are no addresses")]
    Empty,
    /// It is too long.
    #[error("there are {0} addresses; a group has at most {ADDRESSES_MAX} members")]
    TooMany(usize),
    /// One of them is no address.
    #[error("address {place} is {address:?}, it should be HOST:PORT")]
    Malformed {
        /// Which one, counted from 1.
        place: usize,
        /// What is there.
        address: String,
    },
    /// One of them is there before.
    #[error("{0} is there twice")]
    Twice(String),
}

impl Addresses {
    /// Checks the list.
    pub fn new(addresses: Vec<String>) -> Result<Self, AddressesError> {
        match addresses.len() {
            0 => return Err(AddressesError::Empty),
            1..=ADDRESSES_MAX => {}
            more => return Err(AddressesError::TooMany(more)),
        }
        for (place, address) in addresses.iter().enumerate() {
            if !is_address(address) {
                return Err(AddressesError::Malformed { place: place + 1, address: address.clone() });
            }
            if addresses[..place].contains(address) {
                return Err(AddressesError::Twice(address.clone()));
            }
        }
        Ok(Self(addresses))
    }

    /// The addresses, in the order of the nodes.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

/// A host, a colon, and a port other than 0. A host that is an IPv6 address stands in brackets.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_good = match inner {
        Some(inner) => {
            inner.contains(':') && inner.bytes().all(|b| b.is_ascii_hexdigit() || b":.%".contains(&b))
        }
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    let port_is_good =
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    address.len() <= ADDRESS_BYTES_MAX && host_is_good && port_is_good
}

impl FromStr for Addresses {
    type Err = AddressesError;

    fn from_str(text: &str) -> Result<Self, AddressesError> {
        Self::new(text.split(',').map(|address| address.trim().to_owned()).collect())
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_different_addresses_is_read_and_written() {
        let addresses: Addresses = "127.0.0.1:1, [::1]:2,node-3.example:65535".parse().unwrap();
        assert_eq!(addresses.to_string(), "127.0.0.1:1,[::1]:2,node-3.example:65535");
        assert_eq!(addresses.as_slice().len(), 3);
    }

    #[test]
    fn what_is_no_list_of_addresses_is_refused_with_its_place() {
        for (bad, reason) in [
            ("", "address 1 is \"\", it should be HOST:PORT"),
            ("typo", "address 1 is \"typo\", it should be HOST:PORT"),
            ("a:1,b", "address 2 is \"b\", it should be HOST:PORT"),
            ("a:1,", "address 2 is \"\", it should be HOST:PORT"),
            (":1", "address 1 is \":1\", it should be HOST:PORT"),
            ("a:0", "address 1 is \"a:0\", it should be HOST:PORT"),
            ("a:+1", "address 1 is \"a:+1\", it should be HOST:PORT"),
            ("a:70000", "address 1 is \"a:70000\", it should be HOST:PORT"),
            ("a b:1", "address 1 is \"a b:1\", it should be HOST:PORT"),
            ("::1:2", "address 1 is \"::1:2\", it should be HOST:PORT"),
            ("[a]:2", "address 1 is \"[a]:2\", it should be HOST:PORT"),
            ("a:1,b:1,a:1", "a:1 is there twice"),
        ] {
            assert_eq!(bad.parse::<Addresses>().unwrap_err().to_string(), reason);
        }
        assert_eq!(Addresses::new(Vec::new()), Err(AddressesError::Empty));
        let many = |count: usize| Addresses::new((1..=count).map(|port| format!("a:{port}")).collect());
        assert!(many(ADDRESSES_MAX).is_ok());
        assert_eq!(many(ADDRESSES_MAX + 1), Err(AddressesError::TooMany(ADDRESSES_MAX + 1)));
        let name = "a".repeat(ADDRESS_BYTES_MAX - 2);
        assert!(format!("{name}:1").parse::<Addresses>().is_ok());
        assert!(format!("{name}:12").parse::<Addresses>().is_err());
    }
}
