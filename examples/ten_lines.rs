//! A whole bot: `cargo run --example ten_lines cert.pem key.pem`, stopped by Enter.

use ringhook::{Bot, Outcome, Server, TlsConfig, Update};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [cert, key] = [1, 2].map(|n| std::env::args().nth(n).unwrap_or_default());
    let server = Server::builder()
        .listen("127.0.0.1:0".parse()?)
        .tls(TlsConfig::from_pem_files(cert.as_ref(), key.as_ref())?)
        .bot(Bot::new("shop", "/webhook", "secret")?)
        .handler(|update: &Update| {
            println!("update {} is a {}", update.id(), update.kind());
            Outcome::Done
        })
        .start()?;
    let addr = server.local_addr().ok_or("no address")?;
    println!("listening on https://{addr}/webhook");
    std::io::stdin().read_line(&mut String::new())?;
    println!("{}", server.stop());
    Ok(())
}
