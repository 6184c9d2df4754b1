//! From the addresses that configs and operators write to those that are connected to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::addresses::Addresses;
use crate::replica::link::Link;
use crate::types::NodeId;

/// The members of a group at `addresses`, as far as their names can be looked up; why not, if none can.
pub async fn members(addresses: &Addresses, link: &Link) -> Result<BTreeMap<NodeId, SocketAddr>, String> {
    let (mut members, mut failed) = (BTreeMap::new(), String::new());
    for (place, address) in (1..).zip(addresses.as_slice()) {
        match look_up(address).await {
            Ok(found) => drop(members.insert(link.node_at(found, place), found)),
            Err(reason) => failed = format!("{address}: {reason}"),
        }
    }
    if members.is_empty() { Err(failed) } else { Ok(members) }
}

#[cfg(not(madsim))]
async fn look_up(address: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let mut found = tokio::net::lookup_host(address).await.map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "the name has no address".to_owned())
}

/// The simulated network has no names.
#[cfg(madsim)]
async fn look_up(address: &str) -> Result<SocketAddr, String> {
    address.parse().map_err(|error: std::net::AddrParseError| error.to_string())
}
