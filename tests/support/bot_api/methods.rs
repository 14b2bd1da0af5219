//! Which bot and which method a call is about.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::{answer::Answer, bot::FakeBot, calls::Call, http::Request};

/// What stands behind the server's door.
pub(super) struct Service {
    pub(super) bots: Vec<Arc<FakeBot>>,
    calls: Mutex<Vec<Call>>,
    /// Method, status and body.
    script: Mutex<Vec<(String, u16, Vec<u8>)>>,
    flooded: AtomicUsize,
    retry_after: Mutex<u64>,
}

impl Service {
    pub(super) fn new(bots: Vec<Arc<FakeBot>>) -> Self {
        Self {
            bots,
            calls: Mutex::default(),
            script: Mutex::default(),
            flooded: AtomicUsize::new(0),
            retry_after: Mutex::default(),
        }
    }

    pub(super) fn flood(&self, calls: usize, retry_after: u64) {
        *self.retry_after.lock().unwrap() = retry_after;
        self.flooded.store(calls, Ordering::SeqCst);
    }

    pub(super) fn answer_next(&self, method: &str, status: u16, body: impl AsRef<[u8]>) {
        self.script.lock().unwrap().push((method.to_owned(), status, body.as_ref().to_vec()));
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Keeps a record of the call, and answers it.
    pub(super) fn answer(&self, request: Request) -> Answer {
        let call = match request.into_call() {
            Ok(call) => call,
            Err(answer) => return answer,
        };
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call.clone());
            calls.len() - 1
        };
        let answer = self.forced(&call.method).unwrap_or_else(|| self.run(&call));
        self.calls.lock().unwrap()[number].status = Some(answer.status);
        answer
    }

    /// What the test wants to be answered.
    fn forced(&self, method: &str) -> Option<Answer> {
        let one_less = |calls: usize| calls.checked_sub(1);
        if self.flooded.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Some(Answer::flood(*self.retry_after.lock().unwrap()));
        }
        let mut script = self.script.lock().unwrap();
        let at = script.iter().position(|(wanted, ..)| wanted.eq_ignore_ascii_case(method))?;
        let (_, status, body) = script.remove(at);
        Some(Answer::new(status, body))
    }

    fn run(&self, call: &Call) -> Answer {
        if !is_token(&call.token) {
            return Answer::fail(401, "Unauthorized: invalid token specified");
        }
        let is_meant = |bot: &&Arc<FakeBot>| bot.token() == call.token && !bot.is_revoked();
        let Some(bot) = self.bots.iter().find(is_meant) else {
            return Answer::fail(401, "Unauthorized");
        };
        match call.method.to_ascii_lowercase().as_str() {
            "getme" => bot.get_me(),
            "getwebhookinfo" => bot.get_webhook_info(),
            "setwebhook" | "deletewebhook" => bot.set_webhook(call),
            "getupdates" => bot.get_updates(call),
            _ => Answer::fail(404, "Not Found: method not found"),
        }
    }
}

/// True for what has the form of a token.
fn is_token(text: &str) -> bool {
    let Some((id, secret)) = text.split_once(':') else { return false };
    let is_id = id.bytes().all(|byte| byte.is_ascii_digit()) && !id.is_empty();
    is_id && !id.starts_with('0') && !secret.is_empty() && text.len() <= 80
}
