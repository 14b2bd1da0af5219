//! A worker on a table of PostgreSQL: each update in the order of its chat, across restarts.
//!
//! ```sh
//! cargo run --example postgres_worker -- postgres://bot@127.0.0.1/bots ringhook_updates
//! ```
//!
//! Any number of workers may run. An update is locked while one is at it, and the next one of its
//! chat is not taken before it is done. What was not finished when a worker ended goes to another.

use std::{env, error::Error, time::Duration};

use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, NoTls};

fn handle(update: &Value) {
    println!("{}", update["update_id"]);
}

async fn work(server: &mut Client, table: &str) -> Result<(), Box<dyn Error>> {
    // The oldest update that waits, of a chat where none before it waits.
    let take = format!(
        "SELECT id, update::text FROM \"{table}\" AS it WHERE done IS NULL AND NOT EXISTS (
            SELECT FROM \"{table}\" AS earlier
            WHERE earlier.bot = it.bot AND earlier.chat = it.chat AND earlier.done IS NULL
                AND earlier.id < it.id
        ) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
    );
    // Rows stay, so that a copy of an update is known as one: delete them after a day.
    let done = format!("UPDATE \"{table}\" SET done = now() WHERE id = $1");
    let (take, done) = (server.prepare(&take).await?, server.prepare(&done).await?);
    loop {
        let transaction = server.transaction().await?;
        let row = transaction.query_opt(&take, &[]).await?;
        if let Some(row) = &row {
            let (id, update): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
            handle(&serde_json::from_str(update)?);
            transaction.execute(&done, &[&id]).await?;
        }
        transaction.commit().await?;
        if row.is_none() {
            sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (url, table) = args.next().zip(args.next()).ok_or("expected a URL and a table")?;
    let mut config: Config = url.parse()?;
    config.connect_timeout(Duration::from_secs(10));
    loop {
        let error = match config.connect(NoTls).await {
            Ok((mut server, connection)) => {
                tokio::spawn(connection);
                work(&mut server, &table).await.err()
            }
            Err(error) => Some(error.into()),
        };
        if let Some(error) = error {
            eprintln!("{error}");
            sleep(Duration::from_millis(500)).await;
        }
    }
}
