//! The records of a request and its answer take no memory but that which a connection and its shard
//! have.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use ringhook::internals::TestRecords;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps to the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above, and `pointer` is from the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_request_and_its_answer_allocate_nothing() {
    for suite in 0..3 {
        let (mut client, mut server) = (TestRecords::new(suite), TestRecords::new(suite));
        let (mut records, mut answer) = (Vec::with_capacity(400_000), Vec::new());
        let mut count = 0;
        for round in 0..100 {
            // Short, longer than the buffer, of several records.
            for length in [1_300, 1, 5_000, 700, 40_000, 16_384, 1_300] {
                records.clear();
                client.seal(&vec![b'x'; length], &mut records);
                let mut read = 0;
                let before = COUNT.get();
                assert_eq!(server.receive(&records, |data| read += data.len()), None);
                answer.clear();
                server.seal(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &mut answer);
                count += COUNT.get() - before;
                assert_eq!(read, length);
            }
            // The first round gets the buffers.
            if round == 0 {
                assert!(count <= 5, "{count}");
                count = 0;
            }
        }
        assert_eq!(count, 0);
    }
}
