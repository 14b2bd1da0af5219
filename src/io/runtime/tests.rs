//! Tests of `runtime`.

#![allow(clippy::unwrap_used)]

use std::{cell::Cell, io::Read as _, rc::Rc};

use super::*;

fn pair() -> (net::TcpStream, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn both(test: impl Fn(DriverKind)) {
    test(DriverKind::Epoll);
    // A sandbox may forbid rings; what they do is then shown where they are allowed.
    if Runtime::new(DriverKind::IoUring).is_ok() {
        test(DriverKind::IoUring);
    }
}

#[test]
fn shutdown_ends_a_pending_read_and_keeps_what_had_come() {
    both(|driver| {
        let (near, mut far) = pair();
        Runtime::new(driver).unwrap().block_on(async {
            let mut socket = adopt(near.into(), driver).unwrap();
            let fd = descriptor(&socket);
            far.write_all(b"abc").unwrap();
            shutdown(fd, Shutdown::Read);
            let (outcome, buffer) = append(&mut socket, Vec::with_capacity(16)).await;
            assert_eq!((outcome.unwrap(), &buffer[..]), (3, &b"abc"[..]), "{driver}");

            let ended = Rc::new(Cell::new(false));
            let flag = Rc::clone(&ended);
            spawn(async move {
                let (outcome, buffer) = append(&mut socket, buffer).await;
                assert_eq!((outcome.unwrap(), buffer.len()), (0, 3));
                flag.set(true);
            });
            while !ended.get() {
                shutdown(fd, Shutdown::Both);
                sleep(Duration::from_millis(1)).await;
            }
        });
    });
}

#[test]
fn a_wait_without_a_buffer_ends_with_bytes_with_the_end_and_from_outside() {
    both(|driver| {
        Runtime::new(driver).unwrap().block_on(async {
            for how in 0..6 {
                let (near, mut far) = pair();
                let mut socket = adopt(near.into(), driver).unwrap();
                let fd = descriptor(&socket);
                let ended = Rc::new(Cell::new(None));
                let flag = Rc::clone(&ended);
                spawn(async move {
                    readable(&mut socket).await;
                    let (outcome, buffer) = append(&mut socket, Vec::with_capacity(16)).await;
                    flag.set(Some((outcome.ok(), buffer.len())));
                });
                sleep(Duration::from_millis(5)).await;
                assert_eq!(ended.get(), None, "{driver} {how}");
                let expected = match how {
                    0 => {
                        far.write_all(b"abc").unwrap();
                        Some(3)
                    }
                    1 => {
                        far.shutdown(net::Shutdown::Write).unwrap();
                        Some(0)
                    }
                    2 => {
                        shutdown(fd, Shutdown::Read);
                        Some(0)
                    }
                    3 => {
                        shutdown(fd, Shutdown::Both);
                        Some(0)
                    }
                    4 => {
                        far.write_all(b"abcd").unwrap();
                        shutdown(fd, Shutdown::Read);
                        Some(4)
                    }
                    _ => {
                        // An RST.
                        rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO))
                            .unwrap();
                        drop(far);
                        None
                    }
                };
                for _ in 0..1000 {
                    if ended.get().is_some() {
                        break;
                    }
                    sleep(Duration::from_millis(1)).await;
                }
                let (outcome, read) = ended.get().unwrap();
                assert_eq!((outcome, read), (expected, expected.unwrap_or(0)), "{driver} {how}");
            }
        });
    });
}

#[test]
fn discard_reads_to_the_end() {
    both(|driver| {
        let (near, mut far) = pair();
        far.write_all(&[7; 10_000]).unwrap();
        drop(far);
        Runtime::new(driver).unwrap().block_on(async {
            let mut socket = adopt(near.into(), driver).unwrap();
            discard(&mut socket, usize::MAX).await;
            let (outcome, _) = append(&mut socket, Vec::with_capacity(16)).await;
            assert_eq!(outcome.unwrap(), 0);
        });
    });
}

#[test]
fn a_round_ends_when_what_has_come_is_known() {
    both(|driver| {
        let (near, mut far) = pair();
        Runtime::new(driver).unwrap().block_on(async {
            let mut rounds = Rounds::new(driver).unwrap();
            let mut socket = adopt(near.into(), driver).unwrap();
            let has_read = Rc::new(Cell::new(false));
            let flag = Rc::clone(&has_read);
            spawn(async move {
                let (outcome, _) = append(&mut socket, Vec::with_capacity(16)).await;
                assert_eq!(outcome.unwrap(), 1);
                flag.set(true);
            });
            for _ in 0..3 {
                rounds.next().await;
            }
            assert!(!has_read.get(), "{driver}");
            far.write_all(&[1]).unwrap();
            // One in which the byte is seen, and one for the task.
            rounds.next().await;
            rounds.next().await;
            assert!(has_read.get(), "{driver}");
        });
    });
}

#[test]
fn what_was_begun_before_has_left_when_all_is_submitted() {
    both(|driver| {
        let (near, mut far) = pair();
        far.set_nonblocking(true).unwrap();
        Runtime::new(driver).unwrap().block_on(async {
            let submitted = Submitted::new(driver).unwrap();
            let mut socket = adopt(near.into(), driver).unwrap();
            // epoll has to report first that a new socket can be written.
            write_all(&mut socket, &b"a"[..]).await.0.unwrap();
            assert_eq!(far.read(&mut [0; 2]).unwrap(), 1, "{driver}");
            // Twice: what it waits with is not used up.
            for _ in 0..2 {
                let mut write = pin!(write_all(&mut socket, &b"a"[..]));
                let mut written = None;
                let _ = poll_fn(|context| {
                    if let std::task::Poll::Ready(outcome) = write.as_mut().poll(context) {
                        written = Some(outcome);
                    }
                    std::task::Poll::Ready(())
                })
                .await;
                submitted.all().await;
                assert_eq!(far.read(&mut [0; 2]).unwrap(), 1, "{driver}");
                let (outcome, _) = match written {
                    Some(outcome) => outcome,
                    None => write.await,
                };
                outcome.unwrap();
            }
        });
    });
}
