//! A bot in tokio: `cargo run --example tokio_bot cert.pem key.pem`, stopped by Enter.

use std::time::Duration;

use futures_util::StreamExt as _;
use ringhook::{Bot, PendingUpdate, Server, TlsConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [cert, key] = [1, 2].map(|n| std::env::args().nth(n).unwrap_or_default());
    let (server, mut updates) = Server::builder()
        .listen("127.0.0.1:0".parse()?)
        .tls(TlsConfig::from_pem_files(cert.as_ref(), key.as_ref())?)
        .bot(Bot::new("shop", "/webhook", "secret")?)
        .updates(64);
    let server = server.start()?;
    let addr = server.local_addr().ok_or("no address")?;
    println!("listening on https://{addr}/webhook");
    let stopped = tokio::spawn(async move {
        let enter = || std::io::stdin().read_line(&mut String::new());
        let _ = tokio::task::spawn_blocking(enter).await;
        // It waits for the updates that are not settled.
        server.stop_async().await
    });
    // The stream ends when the server has stopped.
    while let Some(update) = updates.next().await {
        // Chats beside each other; the next update of this one comes when this is settled.
        tokio::spawn(answer(update));
    }
    println!("{}", stopped.await?);
    Ok(())
}

async fn answer(update: PendingUpdate) {
    println!("update {} is a {}", update.id(), update.kind());
    // Where the Bot API would be called.
    tokio::time::sleep(Duration::from_millis(1)).await;
    update.done();
}
