//! What one update costs in allocations once the buffers have grown.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Instant,
};

use ringhook::update::{BotId, UpdateBody, UpdateParser};

thread_local! {
    /// Allocations and reallocations of this thread, so that the harness does not count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_parsed_and_recycled_update_costs_no_allocation() {
    let text = update();
    let mut parser = UpdateParser::default();
    let mut cycle = || {
        let mut body = parser.take_body(text.len());
        body.extend(text.as_bytes());
        let update = parser.parse(body, BotId::new(0), Instant::now()).unwrap();
        assert!(update.payload().is_some());
        parser.keep(update.recycle());
    };
    cycle();
    assert_eq!(allocations(|| (0..100).for_each(|_| cycle())), 0);
}

#[test]
fn a_rejected_body_costs_no_allocation() {
    let mut text = update();
    text.pop();
    let mut parser = UpdateParser::default();
    let mut cycle = || {
        let mut body = parser.take_body(text.len());
        body.extend(text.as_bytes());
        let rejected = parser.parse(body, BotId::new(0), Instant::now()).unwrap_err();
        parser.keep_body(rejected.body);
    };
    cycle();
    assert_eq!(allocations(|| (0..100).for_each(|_| cycle())), 0);
}

#[test]
fn reading_and_borrowing_cost_no_allocation() {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        text: &'a str,
    }
    let mut parser = UpdateParser::default();
    let body = UpdateBody::from(update().into_bytes());
    let update = parser.parse(body, BotId::new(0), Instant::now()).unwrap();
    let read = allocations(|| {
        let message: Message<'_> = update.payload().unwrap().deserialize().unwrap();
        assert_eq!(message.text.len(), 400);
        assert_eq!(update.payload().unwrap().get("photo").unwrap().elements().count(), 20);
        serde_json::to_writer(std::io::sink(), &update).unwrap();
    });
    assert_eq!(read, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}

fn update() -> String {
    let photos = r#"{"file_id":"AgACAgIAAxkBAAI","width":90,"height":67},"#.repeat(20);
    format!(
        r#"{{"update_id":1,"message":{{"chat":{{"id":5}},"text":"{}","photo":[{}]}}}}"#,
        "x".repeat(400),
        photos.trim_end_matches(',')
    )
}

fn allocations(action: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    action();
    ALLOCATIONS.get() - before
}
