//! The operator's listener of `ringhook serve`.

use crate::{
    binary::{
        process::Process,
        sender::{SMALL_SEGMENTS, Sender},
        service::Service,
    },
    support::{
        disk::{ReadOnly, with_mounts},
        external::{program, talk},
        port::Port,
        probe::{LOCAL, ask, ok},
    },
};

#[test]
fn the_command_line_has_it_and_tells_where() {
    let dir = tempfile::tempdir().unwrap();
    let process =
        Process::serve(dir.path(), &["--output", "null", "--ack", "memory", "--admin", LOCAL]);
    let line = process
        .stderr()
        .into_iter()
        .find_map(|line| line.trim().strip_prefix("admin").map(|rest| rest.trim().to_owned()));
    let addr = line.unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(ask(addr, "/readyz"), ok());
    // By a client of another project.
    if let Some(mut curl) = program("curl") {
        let url = format!("http://{addr}/incidents");
        let said = talk(curl.args(["-sS", "-i", &url]), b"");
        assert!(said.status.success(), "{}", said.stderr);
        assert!(said.stdout.ends_with("{\"dropped\":0,\"incidents\":[]}\n"), "{}", said.stdout);
    }
    assert_eq!(process.terminate().status.code(), Some(0));
}

#[test]
fn a_journal_whose_disk_takes_nothing_is_an_obstacle_until_it_does() {
    with_mounts(|| {
        let port = Port::reserve();
        let admin = port.addr.to_string();
        let service = Service::new(SMALL_SEGMENTS, &["--output", "null", "--admin", &admin]);
        let server = service.start();
        let mut sender = Sender::new(&service);
        sender.post_all(10);
        assert_eq!(ask(port.addr, "/readyz"), ok());
        // No segment can be begun behind the one that is open.
        let Some(read_only) = ReadOnly::make(&service.journal()) else { return };
        sender.until_refused();
        let why = "journal: its disk takes nothing\n".to_owned();
        assert_eq!(ask(port.addr, "/readyz"), (503, why));
        assert_eq!(ask(port.addr, "/healthz"), ok());
        drop(read_only);
        sender.until_taken();
        assert_eq!(ask(port.addr, "/readyz"), ok());
        assert_eq!(server.terminate().status.code(), Some(0));
    });
}
