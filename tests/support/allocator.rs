//! The allocator of a program that counts: what a thread asks for, what all of them ask for while
//! that is wanted, how many bytes are in use, and how many were at the most.

#![allow(dead_code, unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{
        AtomicBool, AtomicIsize, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    thread,
};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static IS_TRACING: AtomicBool = AtomicBool::new(false);
static IN_USE: AtomicIsize = AtomicIsize::new(0);
static MOST_IN_USE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static OF_THREAD: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread is about to show where it allocates, which allocates.
    static IS_SHOWING: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counting what is asked of it.
struct Counting;

impl Counting {
    fn count(layout: Layout) {
        OF_THREAD.set(OF_THREAD.get() + 1);
        if !IS_COUNTING.load(SeqCst) || IS_SHOWING.get() {
            return;
        }
        if ALLOCATIONS.fetch_add(1, SeqCst) < 400 && IS_TRACING.load(SeqCst) {
            IS_SHOWING.set(true);
            let trace = std::backtrace::Backtrace::force_capture();
            eprintln!("{} bytes by {:?}:\n{trace}", layout.size(), thread::current().name());
            IS_SHOWING.set(false);
        }
    }

    fn took(size: usize) {
        let size = size.cast_signed();
        MOST_IN_USE.fetch_max(IN_USE.fetch_add(size, Relaxed) + size, Relaxed);
    }

    fn gave(size: usize) {
        IN_USE.fetch_sub(size.cast_signed(), Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout);
        Self::took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout);
        Self::took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::gave(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(layout);
        // Both may be there for a moment.
        Self::took(size);
        Self::gave(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and reallocations of this thread so far.
pub(crate) fn of_thread() -> u64 {
    OF_THREAD.get()
}

/// Those of all threads while `action` runs; one such count at a time.
pub(crate) fn of_process(action: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, SeqCst);
    IS_COUNTING.store(true, SeqCst);
    action();
    IS_COUNTING.store(false, SeqCst);
    ALLOCATIONS.load(SeqCst)
}

/// From now on [`of_process`] shows where the first ones come from.
pub(crate) fn trace() {
    IS_TRACING.store(true, SeqCst);
}

/// Bytes that all threads have and have not given back.
pub(crate) fn bytes_in_use() -> isize {
    IN_USE.load(Relaxed)
}

/// The most bytes that were in use at once while `action` ran, beyond those before it.
pub(crate) fn peak_of<T>(action: impl FnOnce() -> T) -> (isize, T) {
    let before = bytes_in_use();
    MOST_IN_USE.store(before, Relaxed);
    let outcome = action();
    (MOST_IN_USE.load(Relaxed) - before, outcome)
}
