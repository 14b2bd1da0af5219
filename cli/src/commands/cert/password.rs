//! The password of a file: from a file, from the environment or typed without an echo.

use std::{
    env,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use ringhook::{Error, ErrorKind, internals::files::text_file};

#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct PasswordArgs {
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Environment variable that holds the password
    #[arg(long, value_name = "VARIABLE")]
    password_env: Option<String>,
}

impl PasswordArgs {
    /// The password that was given; `None` where none was.
    pub(super) fn given(&self) -> Result<Option<Zeroizing<String>>, Error> {
        if let Some(path) = &self.password_file {
            let text = text_file::read(path).map_err(|source| {
                let message = format!("--password-file {}", path.display());
                Error::with_source(ErrorKind::Config, message, source)
            })?;
            let line = text.lines().next().unwrap_or_default();
            return Ok(Some(Zeroizing::new(line.to_owned())));
        }
        let Some(name) = &self.password_env else { return Ok(None) };
        match env::var(name) {
            Ok(password) => Ok(Some(Zeroizing::new(password))),
            // What it holds is not to be shown.
            Err(_) => Err(Error::config("--password-env", name, "a variable that is set, to text")),
        }
    }
}

/// Puts the terminal back as it was.
struct Silent<'a>(&'a io::Stdin, Termios);

impl<'a> Silent<'a> {
    fn new(terminal: &'a io::Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.0, OptionalActions::Now, &self.1);
    }
}

/// Asks for the password on the terminal, without showing it; `None` where there is no terminal.
pub(super) fn ask(of: &str) -> Result<Option<Zeroizing<String>>, Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    let read = || {
        let silent = Silent::new(&stdin)?;
        // Where it cannot be shown, it can still be typed.
        let _ = write!(io::stderr(), "password of {of}: ").and_then(|()| io::stderr().flush());
        let mut line = Zeroizing::new(String::new());
        stdin.lock().read_line(&mut line)?;
        drop(silent);
        let typed = line.strip_suffix('\n').unwrap_or(&line);
        Ok(Zeroizing::new(typed.strip_suffix('\r').unwrap_or(typed).to_owned()))
    };
    let failed = |source: io::Error| Error::with_source(ErrorKind::Config, "the password", source);
    read().map(Some).map_err(failed)
}
