//! A bot on teloxide, behind ringhook.
//!
//! BOT_TOKEN and BOT_SECRET are needed. BOT_PORT or BOT_SOCKET says where it listens, BOT_PATH
//! under which path, BOT_API_ROOT where the Bot API is. BOT_LOG names a file that gets a line for
//! each update handled, BOT_WORK makes each take up to that many milliseconds.

use std::{
    env,
    error::Error,
    fs::{self, OpenOptions},
    io::Write as _,
    time::Duration,
};

use serde_json::Value;
use teloxide::{prelude::*, types::UpdateKind, update_listeners::webhooks};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    time::sleep,
};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let path = variable("BOT_PATH", "/webhook");
    let port: u16 = variable("BOT_PORT", "3000").parse()?;
    let bot = Bot::new(env::var("BOT_TOKEN")?)
        .set_api_url(variable("BOT_API_ROOT", "https://api.telegram.org").parse()?);

    // Not `webhooks::axum`: that sets the webhook at the start and deletes it at the stop. The URL
    // is used by that alone.
    let address = ([127, 0, 0, 1], port).into();
    let options = webhooks::Options::new(address, "https://bot.example.com/".parse()?)
        .path(path)
        .secret_token(env::var("BOT_SECRET")?);
    let (listener, stopped, router) = webhooks::axum_no_setup(options);
    let server = match env::var("BOT_SOCKET") {
        Ok(socket) => {
            // A process that was killed leaves its socket behind.
            if fs::exists(&socket)? {
                fs::remove_file(&socket)?;
            }
            let server = axum::serve(UnixListener::bind(socket)?, router);
            tokio::spawn(server.with_graceful_shutdown(stopped).into_future())
        }
        Err(_) => {
            let server = axum::serve(TcpListener::bind(address).await?, router);
            tokio::spawn(server.with_graceful_shutdown(stopped).into_future())
        }
    };

    let mut dispatcher = Dispatcher::builder(bot, dptree::endpoint(handle)).build();
    let token = dispatcher.shutdown_token();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        terminate.recv().await;
        if let Ok(done) = token.shutdown() {
            done.await;
        }
    });
    // Ends after the updates that wait in its queues.
    let errors = LoggingErrorHandler::with_custom_text("the listener");
    dispatcher.dispatch_with_listener(listener, errors).await;
    server.await??;
    Ok(())
}

/// Gets every update of a kind that this version of teloxide knows.
async fn handle(bot: Bot, update: Update) -> Result<(), Failure> {
    let work: f64 = variable("BOT_WORK", "0").parse()?;
    sleep(Duration::from_secs_f64(rand::random::<f64>() * work / 1000.0)).await;
    if let UpdateKind::Message(message) = &update.kind {
        let text = message.text().unwrap_or_default();
        match text.split(' ').next() {
            // Always a call to the Bot API of its own: there are no method calls in answers.
            Some("/start") => {
                bot.send_message(message.chat.id, "Hello from teloxide").await?;
            }
            Some("/fail") => return Err("asked to fail".into()),
            _ => {}
        }
    }
    record(&update)
}

fn record(update: &Update) -> Result<(), Failure> {
    let Ok(log) = env::var("BOT_LOG") else { return Ok(()) };
    let fields = serde_json::to_value(update)?;
    let fields = fields.as_object().into_iter().flatten();
    for (kind, payload) in fields.filter(|(name, _)| *name != "update_id") {
        let line = format!("{} {kind} {}\n", update.id.0, chat_of(payload));
        // One write, so that lines of several threads stay whole.
        OpenOptions::new().append(true).create(true).open(&log)?.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// The id that an update belongs to: of a chat, a poll or a user.
fn chat_of(payload: &Value) -> String {
    let paths = ["/chat/id", "/message/chat/id", "/poll_id", "/from/id", "/user/id", "/id"];
    match paths.iter().find_map(|path| payload.pointer(path)) {
        Some(Value::String(id)) => id.clone(),
        Some(id) => id.to_string(),
        None => "-".to_owned(),
    }
}

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}
