use dpat_testkit::{Allocated, CountingAllocator, allocated, allocations};
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn counts_calls_and_bytes() {
    let (_kept, allocated) = allocated(|| black_box(vec![1_u8; 100]));
    assert_eq!(
        allocated,
        Allocated {
            count: 1,
            bytes: 100
        }
    );
    assert_eq!(allocations(|| black_box(1 + 1)), (2, 0));
}

#[test]
fn counts_growth_as_reallocation() {
    let (_kept, count) = allocations(|| {
        let mut bytes = Vec::with_capacity(10);
        bytes.extend_from_slice(&[0_u8; 10]);
        bytes.push(1);
        black_box(bytes)
    });
    assert_eq!(count, 2);
}

#[test]
fn other_threads_are_not_counted() {
    let (started, wait) = std::sync::mpsc::channel();
    let (go, go_on) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        go_on.recv().unwrap();
        let boxes: Vec<_> = (0..100).map(Box::new).collect();
        started.send(boxes.len()).unwrap();
    });
    go.send(()).unwrap();
    // `recv` may allocate on this thread; the hundred boxes of the other must not show.
    let (made, count) = allocations(|| wait.recv().unwrap());
    other.join().unwrap();
    assert_eq!(made, 100);
    assert!(count < 50, "{count} allocations seen");
}
