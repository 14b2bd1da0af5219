//! The queue against clients of each habit.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Poll, Queue, TIMES_MAX};

fn poll(offset: i64, limit: usize, connection: u64) -> Poll {
    Poll { offset, limit, connection }
}

/// A queue of updates that are their own ids.
fn queue(ids: &[i64]) -> Queue<i64> {
    let mut queue = Queue::new(false);
    push(&mut queue, ids);
    queue
}

fn push(queue: &mut Queue<i64>, ids: &[i64]) {
    for id in ids {
        assert_eq!(queue.push(*id, *id, 100, Instant::now()), None);
    }
}

/// What a poll confirms, and the numbers that it gets.
fn ask(queue: &mut Queue<i64>, poll: &Poll) -> (Vec<i64>, Vec<i64>) {
    let confirmed = queue.confirm(poll);
    (confirmed, queue.hand_out(poll).into_iter().map(|(number, _)| number).collect())
}

#[test]
fn an_offset_confirms_what_was_handed_out_below_it_and_nothing_else() {
    let mut queue = queue(&[12, 10]);
    assert_eq!(ask(&mut queue, &poll(0, 100, 1)), (vec![], vec![10, 12]));
    push(&mut queue, &[11, 13]);
    // What came late is below the offset, and comes all the same.
    assert_eq!(ask(&mut queue, &poll(13, 100, 1)), (vec![10, 12], vec![11, 13]));
    assert_eq!(ask(&mut queue, &poll(14, 100, 1)), (vec![11, 13], vec![]));
    assert!(queue.is_empty());
}

#[test]
fn without_an_offset_everything_comes_again_from_the_head() {
    let mut queue = queue(&[1, 2, 3]);
    for connection in 0..10 {
        assert_eq!(ask(&mut queue, &poll(0, 2, connection)), (vec![], vec![1, 2]));
    }
    assert_eq!((queue.handed_out(), queue.waiting(), queue.first()), (2, 1, Some(&1)));
}

#[test]
fn what_came_late_comes_again_to_a_client_that_may_not_have_got_it() {
    let mut queue = queue(&[20]);
    assert_eq!(ask(&mut queue, &poll(30, 100, 1)), (vec![], vec![20]));
    // By a connection of its own the same request says nothing of the answer.
    assert_eq!(ask(&mut queue, &poll(30, 100, 2)), (vec![], vec![20]));
    // By the same connection it shows that the answer was read.
    assert_eq!(ask(&mut queue, &poll(30, 100, 2)), (vec![20], vec![]));
    push(&mut queue, &[21]);
    for times in 0..TIMES_MAX {
        assert_eq!(ask(&mut queue, &poll(30, 100, 10 + u64::from(times))), (vec![], vec![21]));
    }
    assert_eq!(ask(&mut queue, &poll(30, 100, 3)), (vec![21], vec![]), "it is not asked for ever");
    push(&mut queue, &[22]);
    assert_eq!(ask(&mut queue, &poll(30, 100, 4)), (vec![], vec![22]));
    assert_eq!(ask(&mut queue, &poll(23, 100, 5)), (vec![22], vec![]), "the offset is another one");
}

#[test]
fn a_poll_for_one_update_at_the_stop_settles_nothing() {
    for late in [false, true] {
        let mut queue = queue(&[5]);
        assert_eq!(ask(&mut queue, &poll(0, 100, 1)), (vec![], vec![5]));
        let next = if late { 3 } else { 7 };
        push(&mut queue, &[next]);
        assert_eq!(ask(&mut queue, &poll(6, 1, 1)), (vec![5], vec![next]));
        // The same process begins again, or another one does.
        assert_eq!(ask(&mut queue, &poll(6, 100, 1)), (vec![], vec![next]));
        assert_eq!(ask(&mut queue, &poll(0, 100, 2)), (vec![], vec![next]));
        assert_eq!(ask(&mut queue, &poll(8, 100, 2)), (vec![next], vec![]));
    }
}

#[test]
fn a_client_that_is_gone_gets_all_of_it_again() {
    let mut queue = queue(&[1, 2]);
    assert_eq!(ask(&mut queue, &poll(0, 100, 1)), (vec![], vec![1, 2]));
    queue.take_back();
    assert_eq!((queue.waiting(), queue.handed_out()), (2, 0));
    assert_eq!(ask(&mut queue, &poll(3, 100, 1)), (vec![], vec![1, 2]));
    assert_eq!(queue.drain().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_negative_offset_leaves_the_last_ones() {
    let mut queue = queue(&[1, 2, 3, 4]);
    let now = Instant::now();
    let _ = ask(&mut queue, &poll(0, 2, 1));
    assert_eq!(queue.forget(2, now), [1, 2]);
    // What was received before and comes later counts among them.
    assert_eq!(queue.push(5, 5, 100, now), Some(3));
    assert_eq!(queue.push(6, 6, 100, now + Duration::from_nanos(1)), None);
    assert_eq!(ask(&mut queue, &poll(-2, 100, 1)), (vec![], vec![4, 5, 6]));
    assert_eq!(queue.push(7, 7, 100, now), Some(7));
    assert_eq!(queue.forget(0, now), [4, 5, 6]);
    assert_eq!(queue.push(8, 8, 100, now), Some(8));
    assert!(queue.is_empty());
}

#[test]
fn an_answer_has_four_mebibytes_at_most_but_one_update() {
    let mut queue = Queue::new(false);
    for id in 1..=5 {
        queue.push(id, id, 2 << 20, Instant::now());
    }
    assert_eq!(ask(&mut queue, &poll(0, 100, 1)).1, [1, 2]);
    queue.push(0, 0, 1 << 23, Instant::now());
    assert_eq!(ask(&mut queue, &poll(0, 100, 1)).1, [0]);
}

#[test]
fn numbers_of_our_own_grow_from_where_the_client_is() {
    let mut queue = Queue::new(true);
    push(&mut queue, &[900, 800]);
    // A client that was there before this process takes nothing below its offset.
    assert_eq!(ask(&mut queue, &poll(50, 100, 1)), (vec![], vec![50, 51]));
    push(&mut queue, &[700]);
    assert_eq!(ask(&mut queue, &poll(52, 100, 2)), (vec![800, 900], vec![52]));
    // A client that begins has no offset. Only where the numbers are high they begin anew.
    assert_eq!(ask(&mut queue, &poll(0, 100, 3)), (vec![], vec![52]));
    assert_eq!(ask(&mut queue, &poll(i64::from(i32::MAX) - 1, 100, 3)), (vec![700], vec![]));
    push(&mut queue, &[1, 2]);
    let all = ask(&mut queue, &poll(i64::from(i32::MAX) - 1, 1, 3)).1;
    assert_eq!(all, [i64::from(i32::MAX) - 1]);
    assert_eq!(ask(&mut queue, &poll(0, 100, 4)), (vec![], vec![1, 2]));
}

/// How a client finds its next offset.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Behind the last update of the answer.
    Last,
    /// Behind the highest that it has seen.
    Highest,
    /// The same, and what is below its offset is dropped.
    HighestOnly,
}

#[derive(Clone, Debug)]
enum Step {
    Push(i64),
    /// A poll whose answer arrives, or does not; by a new connection, or by the last one.
    Poll {
        limit: usize,
        is_lost: bool,
        is_new: bool,
    },
    /// The client ends. Some ask for one update then, and do not look at it.
    Restart {
        asks: bool,
    },
    /// The client is gone for long.
    Gone,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let poll = (1..6_usize, prop::bool::weighted(0.3), any::<bool>());
    let step = prop_oneof![
        6 => (0..1000_i64).prop_map(Step::Push),
        6 => poll.prop_map(|(limit, is_lost, is_new)| Step::Poll { limit, is_lost, is_new }),
        1 => any::<bool>().prop_map(|asks| Step::Restart { asks }),
        1 => Just(Step::Gone),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn nothing_is_settled_that_no_client_has_got(
        steps in steps(),
        habit in prop_oneof![Just(Habit::Last), Just(Habit::Highest), Just(Habit::HighestOnly)],
        renumber in any::<bool>(),
    ) {
        // Such a client loses what comes late, unless the numbers are ours.
        let renumber = renumber || matches!(habit, Habit::HighestOnly);
        let mut queue = Queue::new(renumber);
        let mut pushed = BTreeSet::new();
        let (mut got, mut settled) = (BTreeSet::new(), BTreeSet::new());
        let (mut offset, mut connection, mut was_lost) = (0, 0, false);
        // How often each was in an answer that did not arrive: beyond the bound it counts as got.
        let mut lost = BTreeMap::<i64, u32>::new();
        for step in steps {
            match step {
                Step::Push(id) => {
                    if pushed.insert(id) {
                        prop_assert_eq!(queue.push(id, id, 10, Instant::now()), None);
                    }
                }
                Step::Poll { limit, is_lost, is_new } => {
                    // An answer that was lost leaves no connection.
                    connection += u64::from(is_new || was_lost);
                    let poll = poll(offset, limit, connection);
                    for id in queue.confirm(&poll) {
                        prop_assert!(got.contains(&id), "{} was settled and never got", id);
                        prop_assert!(settled.insert(id), "{} was settled twice", id);
                    }
                    let answer: Vec<(i64, i64)> =
                        queue.hand_out(&poll).into_iter().map(|(number, id)| (number, *id)).collect();
                    prop_assert!(answer.len() <= limit);
                    prop_assert!(answer.is_sorted());
                    let numbers: BTreeMap<_, _> = answer.iter().copied().collect();
                    prop_assert_eq!(numbers.len(), answer.len());
                    prop_assert!(!answer.is_empty() || queue.is_empty());
                    let bound = |(_, id): &(i64, i64)| lost.get(id).is_some_and(|it| it + 1 >= TIMES_MAX);
                    was_lost = is_lost && !answer.iter().any(bound);
                    if was_lost {
                        answer.iter().for_each(|(_, id)| *lost.entry(*id).or_default() += 1);
                        continue;
                    }
                    let before = offset;
                    for (number, id) in answer {
                        prop_assert!(!settled.contains(&id), "{} comes again", id);
                        if matches!(habit, Habit::HighestOnly) && number < before {
                            continue;
                        }
                        got.insert(id);
                        offset = match habit {
                            Habit::Last => number + 1,
                            Habit::Highest | Habit::HighestOnly => offset.max(number + 1),
                        };
                    }
                }
                Step::Restart { asks } => {
                    if asks && lost.values().all(|it| it + 1 < TIMES_MAX) {
                        connection += u64::from(was_lost);
                        let poll = poll(offset, 1, connection);
                        for id in queue.confirm(&poll) {
                            prop_assert!(got.contains(&id) && settled.insert(id));
                        }
                        let ignored = queue.hand_out(&poll);
                        ignored.iter().for_each(|(_, id)| *lost.entry(**id).or_default() += 1);
                    }
                    (offset, was_lost) = (0, false);
                    connection += 1;
                }
                Step::Gone => queue.take_back(),
            }
        }
        // A client that goes on gets all of it.
        for _ in 0..1000 {
            if queue.is_empty() {
                break;
            }
            let poll = poll(offset, 100, connection);
            settled.extend(queue.confirm(&poll));
            let numbers: Vec<i64> = queue.hand_out(&poll).iter().map(|(number, _)| *number).collect();
            for number in numbers {
                offset = match habit {
                    Habit::Last => number + 1,
                    Habit::Highest | Habit::HighestOnly => offset.max(number + 1),
                };
            }
        }
        prop_assert!(queue.is_empty());
        prop_assert_eq!(settled, pushed);
    }
}
