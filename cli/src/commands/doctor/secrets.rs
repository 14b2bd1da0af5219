//! Whether the bot's credentials can be read, and by whom else.

use std::{io, os::unix::fs::PermissionsExt as _, path::Path};

use super::step::Finding;
use crate::config::BotSection;
use ringhook::Error;

/// Permissions of users who are neither the owner nor of the group.
const OTHERS: u32 = 0o007;

/// What is to be said of the credentials of `section`, and of the files they are in; `data_dir` is
/// the server's.
pub(super) fn look(section: &BotSection, data_dir: &Path) -> Finding {
    let token = match section.secret_token() {
        Ok(token) => token,
        Err(error) => return unread(&error, can_be_made(section, data_dir)),
    };
    let userinfo = match section.userinfo() {
        Ok(userinfo) => userinfo,
        Err(error) => return unread(&error, false),
    };
    let source = section.secret_source();
    let files = section.secret_files().chain(section.token_file.as_deref());
    if let Some(path) = files.into_iter().find(|path| is_open(path)) {
        let path = path.display();
        return Finding::warn(
            format!("{path} can be read by every user of this machine"),
            format!("chmod 600 {path}, and chown it to the user of the server"),
        );
    }
    match (token, userinfo) {
        (Some(_), _) => Finding::ok(format!("the secret token is in {source}")),
        (None, Some(_)) => Finding::ok(format!("user and password are in {source}")),
        (None, None) => Finding::warn(
            "none: any client that knows the URL can send updates",
            "put secret_token_file = \"FILE\" in its [[bot]] in the place of auth = \"none\", then: \
             ringhook webhook set",
        ),
    }
}

fn is_open(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.permissions().mode() & OTHERS != 0)
}

/// Whether `serve` makes the file of the secret token. That takes a directory, and that of the data
/// it makes as well.
fn can_be_made(section: &BotSection, data_dir: &Path) -> bool {
    let path = section.secret_token_file.as_deref();
    let dir = path.and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new(".")).is_dir() || (dir.is_some() && dir == Some(data_dir))
}

fn unread(error: &Error, can_be_made: bool) -> Finding {
    let fix = match error.io().map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) if !can_be_made => {
            "put the file there, or its right name into the config"
        }
        Some(io::ErrorKind::NotFound) => {
            "ringhook serve makes it on its first run, and ringhook webhook set does; is --data-dir \
             that of the server?"
        }
        Some(io::ErrorKind::PermissionDenied) => "run doctor as the user of the server, or as root",
        _ => "put it right, then start or reload the server",
    };
    Finding::fail(error.to_string(), fix)
}
