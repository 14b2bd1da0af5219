//! What the hand-overs between threads are built on. `tests/loom` builds their files against loom's
//! forms of these names, so they take them from here.

pub(crate) use std::{
    sync::{
        Mutex, OnceLock, TryLockError,
        atomic::{AtomicBool, AtomicU64, fence},
    },
    thread::{Thread, current, park},
};

pub(crate) use atomic_waker::AtomicWaker;
pub(crate) use crossbeam_channel::{Receiver, Sender, TryRecvError};
