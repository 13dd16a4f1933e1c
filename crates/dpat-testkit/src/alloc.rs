//! Counted allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

std::thread_local! {
    // Const-initialised and without a destructor, so that reading them never allocates.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// The system allocator, counting per thread.
///
/// Install it in the test binary; parallel tests do not disturb each other, since every thread has its own counters.
///
/// ```
/// use dpat_testkit::{CountingAllocator, allocations};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// let (sum, count) = allocations(|| (0..100_u64).sum::<u64>());
/// assert_eq!((sum, count), (4950, 0));
/// let (_vec, count) = allocations(|| vec![1_u8; 100]);
/// assert_eq!(count, 1);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What a closure asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Calls of alloc, alloc_zeroed and realloc.
    pub count: u64,
    /// Bytes asked for; a realloc counts its new size.
    pub bytes: u64,
}

fn note(bytes: usize) {
    // `try_with`: a thread that is being torn down may still allocate.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    let _ = BYTES.try_with(|total| total.set(total.get() + bytes as u64));
}

// SAFETY: every method passes its arguments unchanged to [`System`], which is a correct allocator; counting touches
// only two thread-local cells and neither allocates nor unwinds.
#[allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "an allocator cannot be written otherwise; one argument, above, covers every block"
)]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn read() -> Allocated {
    Allocated {
        count: COUNT.with(Cell::get),
        bytes: BYTES.with(Cell::get),
    }
}

/// Runs a closure and returns how many allocations its thread made meanwhile.
///
/// # Panics
/// If [`CountingAllocator`] is not the global allocator: zero would prove nothing.
pub fn allocations<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let (result, allocated) = allocated(work);
    (result, allocated.count)
}

/// Runs a closure and returns what its thread asked of the allocator meanwhile.
///
/// # Panics
/// If [`CountingAllocator`] is not the global allocator.
pub fn allocated<R>(work: impl FnOnce() -> R) -> (R, Allocated) {
    let before = read();
    drop(black_box(Box::new(black_box(1_u64))));
    assert!(
        read().count > before.count,
        "CountingAllocator is not the #[global_allocator] of this binary"
    );
    let start = read();
    let result = work();
    let end = read();
    let allocated = Allocated {
        count: end.count - start.count,
        bytes: end.bytes - start.bytes,
    };
    (result, allocated)
}
