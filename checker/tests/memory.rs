//! What a check needs above its input, counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use eraft_checker::generate::{Shape, generate};
use eraft_checker::{Options, Verdict};

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

/// One test, because it counts what all threads allocate.
#[test]
fn memory_above_the_input() {
    let unique = Shape { operations: 200_000, keys: 0, clients: 20, ..Shape::default() };
    assert!(bytes_per_operation(&unique) <= 64);
    assert!(bytes_per_operation(&Shape { index: true, ..unique }) <= 64);
    let repeated = Shape { values: 5, clients: 5, ..unique };
    let (short, long) =
        (bytes_per_operation(&repeated), bytes_per_operation(&Shape { operations: 400_000, ..repeated }));
    assert!(short <= 128 && long <= short + short / 10, "{short}, {long}");
}
