//! What a check needs above its input, counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use eraft_checker::generate::{Shape, generate};
use eraft_checker::{AnyHistory, Online, OnlineOptions, Options, Verdict};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with the bytes in use.
struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of the allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of the allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that a check of such a history needs at a time, for each operation.
fn bytes_per_operation(shape: &Shape) -> usize {
    let history = generate(shape, 1);
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let report = history.check(&Options { confirm: false, ..Options::default() });
    let bytes = (PEAK.load(Ordering::Relaxed) - before) / shape.operations;
    assert_eq!(report.verdict, Verdict::Linearizable);
    println!("{bytes} bytes an operation: {shape:?}");
    bytes
}

/// The most that following such a history needs at a time; what it is fed from is not counted.
fn bytes_online(shape: &Shape) -> usize {
    let AnyHistory::Register(model, history) = generate(shape, 1) else { panic!("{shape:?} is no register") };
    let mut events: Vec<(usize, usize)> = Vec::with_capacity(2 * history.operations.len());
    for (number, operation) in history.operations.iter().enumerate() {
        events.push((operation.invoked.event, number));
        events.extend(operation.returned().map(|returned| (returned.event, number)));
    }
    events.sort_unstable();
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let mut online = Online::new(model, OnlineOptions::default());
    for (event, number) in events {
        let operation = &history.operations[number];
        if event == operation.invoked.event {
            online.invoke(operation.process, operation.op.clone(), 0, None).unwrap();
        } else if let Some(ret) = operation.ret() {
            online.ok(operation.process, ret.clone(), 0, None).unwrap();
        }
    }
    assert_eq!(online.report().verdict, Verdict::Linearizable);
    let bytes = PEAK.load(Ordering::Relaxed) - before;
    println!("{bytes} bytes: {shape:?}");
    bytes
}

/// One test, because it counts what all threads allocate.
#[test]
fn memory_above_the_input() {
    let unique = Shape { operations: 200_000, keys: 0, clients: 20, ..Shape::default() };
    assert!(bytes_per_operation(&unique) <= 64);
    assert!(bytes_per_operation(&Shape { index: true, ..unique }) <= 64);
    let repeated = Shape { values: 5, clients: 5, ..unique };
    let (short, long) =
        (bytes_per_operation(&repeated), bytes_per_operation(&Shape { operations: 400_000, ..repeated }));
    assert!(short <= 16 && long <= short + short / 10, "{short}, {long}");
    // Following needs no more for a longer history.
    for shape in [Shape { clients: 5, ..unique }, repeated] {
        let (short, long) = (bytes_online(&shape), bytes_online(&Shape { operations: 400_000, ..shape }));
        assert!(short < 8 << 20 && long <= short + short / 10, "{short}, {long}: {shape:?}");
    }
}
