//! The tasks of a shard that belong to no connection, and their end.
//!
//! monoio drops no task that waits when its loop ends: the task's waker is in what it waits for,
//! and that is in the task. Such a task keeps its descriptors, and a waker of it that another
//! thread holds would free them there. So the shard's main task tells these to end and waits until
//! they have.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use crate::io::runtime;

/// The background tasks of one shard.
#[derive(Debug, Default)]
pub(crate) struct Background {
    is_over: Cell<bool>,
    /// Wakes the main task when the last of them has ended.
    main: RefCell<Option<Waker>>,
    running: Cell<usize>,
    /// Of all of them.
    tasks: RefCell<Vec<Waker>>,
}

impl Background {
    /// Runs `task` until it ends by itself, which it has to when it is [over](Self::is_over).
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.running.set(self.running.get() + 1);
        let background = Rc::clone(self);
        runtime::spawn(async move {
            poll_fn(|context| {
                background.tasks.borrow_mut().push(context.waker().clone());
                Poll::Ready(())
            })
            .await;
            task.await;
            background.ended();
        });
    }

    fn ended(&self) {
        self.running.set(self.running.get().saturating_sub(1));
        if self.running.get() == 0
            && let Some(main) = self.main.take()
        {
            main.wake();
        }
    }

    /// True once the tasks are to end.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Has all tasks look at what they wait for.
    pub(crate) fn wake(&self) {
        self.tasks.borrow().iter().for_each(Waker::wake_by_ref);
    }

    /// Waits for `time`, or until it is over, or `is_enough` after a [`wake`](Self::wake).
    pub(crate) async fn pause(&self, time: Duration, is_enough: impl Fn() -> bool) {
        let mut sleep = pin!(runtime::sleep(time));
        poll_fn(|context| {
            if self.is_over() || is_enough() {
                return Poll::Ready(());
            }
            sleep.as_mut().poll(context)
        })
        .await;
    }

    /// Tells the tasks to end and waits until they have.
    pub(crate) async fn end(&self) {
        self.is_over.set(true);
        self.wake();
        poll_fn(|context| {
            if self.running.get() == 0 {
                return Poll::Ready(());
            }
            *self.main.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.tasks.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;
    use crate::{
        config::DriverKind,
        io::runtime::{Rounds, Runtime, Submitted},
    };

    #[test]
    fn no_task_outlives_its_loop_whatever_it_waits_for() {
        for driver in [DriverKind::Epoll, DriverKind::IoUring] {
            let Ok(mut runtime) = Runtime::new(driver) else { continue };
            let held = Rc::new(());
            let background = Rc::new(Background::default());
            let began_at = Instant::now();
            runtime.block_on(async {
                let (tasks, kept) = (Rc::clone(&background), Rc::clone(&held));
                background.spawn(async move {
                    tasks.pause(Duration::from_secs(3600), || false).await;
                    drop(kept);
                });
                let (tasks, kept) = (Rc::clone(&background), Rc::clone(&held));
                let mut rounds = Rounds::new(driver).ok();
                background.spawn(async move {
                    while !tasks.is_over() {
                        runtime::give_way(&mut rounds).await;
                    }
                    drop(kept);
                });
                let (tasks, kept) = (Rc::clone(&background), Rc::clone(&held));
                let submitted = Submitted::new(driver).ok();
                background.spawn(async move {
                    while !tasks.is_over() {
                        runtime::sleep(Duration::from_millis(1)).await;
                        if let Some(submitted) = &submitted {
                            submitted.all().await;
                        }
                    }
                    drop(kept);
                });
                runtime::sleep(Duration::from_millis(5)).await;
                assert_eq!(Rc::strong_count(&held), 4, "{driver}");
                background.end().await;
            });
            assert_eq!(Rc::strong_count(&held), 1, "{driver}");
            assert_eq!(Rc::strong_count(&background), 1, "{driver}");
            assert!(began_at.elapsed() < Duration::from_secs(60), "no sleep is waited for");
        }
    }

    #[test]
    fn a_pause_ends_when_something_else_is_enough() {
        let mut runtime = Runtime::new(DriverKind::Epoll).unwrap();
        let background = Rc::new(Background::default());
        let is_enough = Rc::new(Cell::new(false));
        runtime.block_on(async {
            let (tasks, flag) = (Rc::clone(&background), Rc::clone(&is_enough));
            let ended = Rc::new(Cell::new(false));
            let told = Rc::clone(&ended);
            background.spawn(async move {
                tasks.pause(Duration::from_secs(3600), || flag.get()).await;
                told.set(true);
            });
            runtime::sleep(Duration::from_millis(5)).await;
            background.wake();
            runtime::sleep(Duration::from_millis(5)).await;
            assert!(!ended.get(), "it was only looked at");
            is_enough.set(true);
            background.wake();
            background.end().await;
            assert!(ended.get());
        });
    }
}
