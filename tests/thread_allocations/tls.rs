//! The records of a request and its answer take no memory but that which a connection and its shard
//! have.

use ringhook::internals::TestRecords;

use crate::allocator::of_thread;

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
                let before = of_thread();
                assert_eq!(server.receive(&records, |data| read += data.len()), None);
                answer.clear();
                server.seal(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &mut answer);
                count += of_thread() - before;
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
