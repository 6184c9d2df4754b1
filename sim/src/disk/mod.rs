//! The simulated disk: a madsim [`Simulator`] with one device per node.
//!
//! A write is durable when it completes, in the order of a device queue that takes drawn times. The scenario says how
//! a node dies *before* it kills it: [`DiskSim::process_death`] (completed writes stay, each write in flight stays
//! whole or is lost whole) or [`DiskSim::power_loss`] (the write in flight is lost or torn, what queued behind it is
//! lost). A torn batch is found at the next open by its checksum and dropped whole, as LevelDB does, so that for the
//! store's user torn and lost are one; they are counted apart. A completed write is never lost.
//!
//! Faults are set at run time and counted when an operation meets them: slow, stall, full, write and read errors,
//! damage, rot. A stall stops the device, not the node's tasks.
//!
//! All draws are functions of (seed, node, operation number).

mod device;
mod fault;
mod trouble;
mod volume;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eraft::random::Draw;
use eraft::types::NodeId;
use madsim::plugin::{self, Simulator};
use madsim::rand::GlobalRng;
use madsim::runtime::Runtime;
use madsim::time::TimeHandle;

pub use fault::{DiskCounters, Failure};
pub use volume::SimVolume;

use crate::timing::Spread;
use device::{Device, State};
use trouble::Death;

/// How fast a device is, and how likely the ends of what was in flight are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiskConfig {
    /// A synced write of a batch, a file or a removal.
    pub write: Spread,
    /// Opening a store.
    pub open: Spread,
    /// What the device takes beside that for the bytes themselves.
    pub bytes_per_second: u64,
    /// An unacknowledged write outlives the death of its process.
    pub survives_process_death: f64,
    /// The one write that the device was working on at a power loss had reached the medium after all.
    pub survives_power_loss: f64,
    /// If it had not, it is torn, not missing.
    pub torn_by_power_loss: f64,
    /// A write that failed with an I/O error is found at the next open all the same.
    pub kept_after_error: f64,
    /// Nobody compares checksums: what has rotted is read as it is. A planted bug.
    pub ignores_checksums: bool,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            write: Spread::micros(100, 1_000, 5_000),
            open: Spread::micros(500, 2_000, 20_000),
            bytes_per_second: 200_000_000,
            survives_process_death: 0.5,
            survives_power_loss: 0.1,
            torn_by_power_loss: 0.5,
            kept_after_error: 0.5,
            ignores_checksums: false,
        }
    }
}

/// The disks of all nodes, and what the scenario does to them.
pub struct DiskSim {
    time: TimeHandle,
    settings: Mutex<Settings>,
    devices: Mutex<BTreeMap<NodeId, Arc<Device>>>,
}

#[derive(Default)]
struct Settings {
    seed: u64,
    config: DiskConfig,
}

impl Simulator for DiskSim {
    fn new(_: &GlobalRng, time: &TimeHandle, _: &madsim::Config) -> Self {
        Self { time: time.clone(), settings: Mutex::default(), devices: Mutex::default() }
    }

    /// The madsim node was killed. Unless the scenario said how, it was the process that died.
    fn reset_node(&self, id: madsim::task::NodeId) {
        for device in self.devices().values() {
            let mut state = device.lock();
            if state.owner == Some(id) && !std::mem::take(&mut state.announced) {
                device.die(&mut state, Death::Process);
            }
        }
    }
}

impl DiskSim {
    /// Adds the disks to a runtime, before any node is built.
    pub fn install(runtime: &Runtime) {
        runtime.add_simulator::<Self>();
    }

    /// The disks of the current runtime.
    pub fn current() -> Arc<Self> {
        plugin::simulator()
    }

    /// Sets the seed of all draws and the properties of devices; call it before the first volume is opened.
    pub fn configure(&self, seed: u64, config: DiskConfig) {
        assert!(self.devices().is_empty(), "the disks are configured before they are used");
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Settings { seed, config };
    }

    /// The volume of member `node`, for the madsim node that is running now: call it inside that node's init future.
    /// It ends with the death of that madsim node.
    pub fn volume(&self, node: NodeId) -> SimVolume {
        let device = self.device(node);
        let mut state = device.lock();
        state.owner = Some(plugin::node());
        state.announced = false;
        let incarnation = state.incarnation;
        drop(state);
        SimVolume::new(device, incarnation)
    }

    /// The next kill of `node` is the death of its process alone.
    pub fn process_death(&self, node: NodeId) {
        self.announce(node, Death::Process);
    }

    /// The next kill of `node` is a power loss.
    pub fn power_loss(&self, node: NodeId) {
        self.announce(node, Death::Power);
    }

    /// The next kill of `node` is a power loss, and the write that its device is working on then is torn.
    pub fn torn_write(&self, node: NodeId) {
        self.announce(node, Death::Torn);
    }

    /// Every operation that begins from now on takes `factor` times as long; 1 is normal.
    pub fn slow(&self, node: NodeId, factor: u32) {
        self.with(node, |device, state| device.slow(state, factor));
    }

    /// The device serves nothing for `duration`.
    pub fn stall(&self, node: NodeId, duration: Duration) {
        self.with(node, |device, state| device.stall(state, duration));
    }

    /// Writes to the store or file `target` (`None`: to anything) fail with I/O errors.
    pub fn fail_writes(&self, node: NodeId, target: Option<&str>, failure: Failure) {
        self.with(node, |_, state| state.set_failures(target, Some(failure), None));
    }

    /// Reads of the store or file `target` (`None`: of anything) fail.
    pub fn fail_reads(&self, node: NodeId, target: Option<&str>, failure: Failure) {
        self.with(node, |_, state| state.set_failures(target, None, Some(failure)));
    }

    /// Writes to the store or file `target` (`None`: to anything) find the device full, or have room again.
    pub fn fill(&self, node: NodeId, target: Option<&str>, full: bool) {
        self.with(node, |_, state| state.wrong(target).full = full);
    }

    /// The store `store` is found damaged at `offset` when it is opened next, and until it is removed. False: there
    /// is no such store.
    pub fn damage(&self, node: NodeId, store: &str, offset: u64) -> bool {
        self.with(node, |_, state| match state.stores.get_mut(store) {
            Some(stored) => {
                stored.damage = Some(offset);
                true
            }
            None => false,
        })
    }

    /// A bit of a value in the store `store` turns, where it lies: reads of it fail from now on, until it is written
    /// anew. Never in what was written last, where nobody could notice it in a log. False: there is nothing else.
    pub fn rot(&self, node: NodeId, store: &str, draw: &mut Draw) -> bool {
        self.with(node, |_, state| state.stores.get_mut(store).is_some_and(|stored| stored.rot(draw)))
    }

    /// Has something in `store` rotted?
    pub fn is_rotten(&self, node: NodeId, store: &str) -> bool {
        self.with(node, |_, state| state.stores.get(store).is_some_and(|stored| !stored.rot.is_empty()))
    }

    /// The content of a small file; `None` if there is no such file.
    pub fn file(&self, node: NodeId, name: &str) -> Option<Vec<u8>> {
        self.with(node, |_, state| state.files.get(name).cloned())
    }

    /// Ends every fault of `node`'s disk; damage stays.
    pub fn heal(&self, node: NodeId) {
        self.with(node, |device, state| device.heal(state));
    }

    /// What is durable in a store now, without its node's knowledge; `None` if there is no such store.
    pub fn durable(&self, node: NodeId, store: &str) -> Option<Arc<BTreeMap<Bytes, Bytes>>> {
        self.with(node, |_, state| state.stores.get(store).map(|stored| stored.content.clone()))
    }

    /// What `node`'s disk has met so far.
    pub fn counters(&self, node: NodeId) -> DiskCounters {
        self.with(node, |_, state| state.counters)
    }

    /// What all disks have met so far.
    pub fn counters_total(&self) -> DiskCounters {
        let mut total = DiskCounters::default();
        for device in self.devices().values() {
            total.add(&device.lock().counters);
        }
        total
    }

    fn announce(&self, node: NodeId, death: Death) {
        self.with(node, |device, state| {
            device.die(state, death);
            state.announced = true;
        });
    }

    fn with<T>(&self, node: NodeId, action: impl FnOnce(&Device, &mut State) -> T) -> T {
        let device = self.device(node);
        let mut state = device.lock();
        action(&device, &mut state)
    }

    fn device(&self, node: NodeId) -> Arc<Device> {
        let mut devices = self.devices();
        let device = devices.entry(node).or_insert_with(|| {
            let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::new(Device::new(node, settings.seed, settings.config, self.time.clone()))
        });
        device.clone()
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Device>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
