//! Shards go from group to group.

use super::cluster::{Cluster, ExpectOk as _};

fn key(number: u64) -> bytes::Bytes {
    format!("user:{number}").into()
}

#[test]
fn a_store_is_served_by_its_groups_and_a_shard_moves() {
    let cluster = Cluster::new(&[1, 2]);
    let client = cluster.client(1);
    cluster.join(&client, &[1, 2]);
    for number in 0..50 {
        cluster.run(client.put(key(number), format!("{number}").into())).expect_ok();
    }
    let (from, to) = if cluster.latest(&client).shards[3].owner.is_some_and(|owner| owner.0 == 1) {
        (1, 2)
    } else {
        (2, 1)
    };
    cluster.pin(&client, 3, to);
    for number in 0..50 {
        cluster.run(client.append(key(number), "+".into())).expect_ok();
        let value = cluster.run(client.get(key(number))).expect_ok();
        assert_eq!(value, Some(format!("{number}+").into()));
    }
    cluster.settle(&client, &[1, 2]);
    assert!(cluster.statuses(from).iter().all(|status| status.shards.iter().all(|of| of.shard != 3)));
}
