//! A worker on a stream of Redis or Valkey: each update in its order, across restarts.
//!
//! ```sh
//! cargo run --example redis_worker -- redis://127.0.0.1:6379 'tg:{shop:0}'
//! ```
//!
//! A stream has one worker, so that the updates of a chat stay in order; several streams, by
//! `shards`, have one each. An update that was not finished when a worker ended comes first to the
//! next one.

use std::{env, error::Error, thread, time::Duration};

use redis::{
    Client, RedisResult, cmd, pipe,
    streams::{StreamId, StreamReadReply},
};
use serde_json::Value;

const GROUP: &str = "bot";
const WORKER: &str = "bot";

fn handle(update: &Value) {
    println!("{}", update["update_id"]);
}

fn work(client: &Client, stream: &str) -> Result<(), Box<dyn Error>> {
    let mut server = client.get_connection_with_timeout(Duration::from_secs(10))?;
    server.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut create = cmd("XGROUP");
    let made: RedisResult<()> =
        create.arg("CREATE").arg(stream).arg(GROUP).arg("0").arg("MKSTREAM").exec(&mut server);
    if let Err(error) = made
        && error.code() != Some("BUSYGROUP")
    {
        return Err(error.into());
    }
    // First what the worker before this one has got and not finished, then what is new.
    let mut start = "0";
    loop {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(WORKER).arg("COUNT").arg(100).arg("BLOCK").arg(2000);
        let found: Option<StreamReadReply> =
            read.arg("STREAMS").arg(stream).arg(start).query(&mut server)?;
        let records = found.and_then(|found| found.keys.into_iter().next());
        let records = records.map(|stream| stream.ids).unwrap_or_default();
        for StreamId { id, map, .. } in &records {
            if let Some(update) = map.get("update") {
                let text: String = redis::from_redis_value_ref(update)?;
                handle(&serde_json::from_str(&text)?);
            }
            // A stream keeps what is read until it is deleted.
            let mut done = pipe();
            done.cmd("XACK").arg(stream).arg(GROUP).arg(id);
            done.cmd("XDEL").arg(stream).arg(id).exec(&mut server)?;
        }
        if records.is_empty() {
            start = ">";
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (url, stream) = args.next().zip(args.next()).ok_or("expected a URL and a stream")?;
    let client = Client::open(url)?;
    loop {
        if let Err(error) = work(&client, &stream) {
            eprintln!("{error}");
            thread::sleep(Duration::from_millis(500));
        }
    }
}
