//! loom's forms of the names of `src/sync.rs`.

use std::{
    collections::VecDeque,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    task::Waker,
};

use loom::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
pub(crate) use std::sync::TryLockError;

pub(crate) use loom::{
    sync::atomic::{AtomicBool, AtomicU64, fence},
    thread::{Thread, current, park},
};

/// The standard library's, with the orders that it promises.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self { is_set: AtomicBool::default(), value: std::sync::OnceLock::new() }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Release);
        Ok(())
    }
}

/// The standard library's as far as it is used: no thread waits for it.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    is_taken: AtomicBool,
    value: std::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    is_taken: &'a AtomicBool,
    value: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { is_taken: AtomicBool::new(false), value: std::sync::Mutex::new(value) }
    }

    pub(crate) fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'_, T>>> {
        match self.is_taken.compare_exchange(false, true, Acquire, Relaxed) {
            Ok(_) => {
                let value = Some(self.value.try_lock().unwrap());
                Ok(MutexGuard { is_taken: &self.is_taken, value })
            }
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().unwrap()
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.value.take());
        self.is_taken.store(false, Release);
    }
}

/// Something that threads use one after the other, each seeing what those before it have done. It
/// is no mutex of loom's: there a thread that waits for it takes an unpark for the lock.
#[derive(Debug, Default)]
struct OneByOne<T> {
    order: AtomicUsize,
    value: std::sync::Mutex<T>,
}

impl<T> OneByOne<T> {
    fn new(value: T) -> Self {
        Self { order: AtomicUsize::new(0), value: std::sync::Mutex::new(value) }
    }

    /// loom lets no other thread run while `step` does nothing of loom's.
    fn step<R>(&self, step: impl FnOnce(&mut T) -> R) -> R {
        self.order.fetch_add(1, AcqRel);
        step(&mut self.value.try_lock().unwrap())
    }
}

/// The one of the crate `atomic-waker`.
#[derive(Debug, Default)]
pub(crate) struct AtomicWaker(OneByOne<Option<Waker>>);

impl AtomicWaker {
    pub(crate) fn register(&self, waker: &Waker) {
        let waker = waker.clone();
        drop(self.0.step(|registered| registered.replace(waker)));
    }

    pub(crate) fn take(&self) -> Option<Waker> {
        self.0.step(Option::take)
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}

/// A channel of `crossbeam-channel` as far as the protocol uses it. It refuses to grow beyond its
/// capacity: no sender ever waits.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), capacity, senders: 1, has_receiver: true };
    let shared = Arc::new(OneByOne::new(state));
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    senders: usize,
    has_receiver: bool,
}

pub(crate) struct Sender<T>(Arc<OneByOne<State<T>>>);

pub(crate) struct Receiver<T>(Arc<OneByOne<State<T>>>);

#[derive(Debug)]
pub(crate) struct SendError<T>(pub(crate) T);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TryRecvError {
    Empty,
    Disconnected,
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.0.step(|state| {
            if !state.has_receiver {
                return Err(SendError(value));
            }
            assert!(state.queue.len() < state.capacity, "a sender would wait");
            state.queue.push_back(value);
            Ok(())
        })
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.step(|state| state.senders += 1);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.step(|state| state.senders -= 1);
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.step(|state| {
            let is_over = state.senders == 0;
            state.queue.pop_front().ok_or(match is_over {
                true => TryRecvError::Disconnected,
                false => TryRecvError::Empty,
            })
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Its content is dropped with it, as with the real one.
        let content = self.0.step(|state| {
            state.has_receiver = false;
            std::mem::take(&mut state.queue)
        });
        drop(content);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
