//! Where the updates of a run come from: made up, or a file of the user's own.

use crate::{
    ChatKey, Error, Options, PayloadGenerator, UpdateKind, chat_of, kind_of, replay::Replayed,
};

/// Gives the bytes of each update and what it is ordered by, by its number in the run.
pub(crate) enum Source {
    Generated(Box<PayloadGenerator>),
    Replayed(Box<Replayed>),
}

impl Source {
    /// What the options ask for. A file is read to its end once, to see that it is sound.
    ///
    /// # Errors
    /// [`Error::Option`] if a file cannot be read, or has a line that is no update.
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        Ok(match &options.replay {
            Some(replay) => {
                Self::Replayed(Box::new(Replayed::open(replay, options.first_update_id)?))
            }
            None => Self::Generated(Box::new(PayloadGenerator::new(&options.payload))),
        })
    }

    /// How many updates there are, if they come to an end.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Self::Generated(..) => None,
            Self::Replayed(replayed) => Some(replayed.len()),
        }
    }

    /// Appends an update to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, update_id: u64) {
        match self {
            Self::Generated(generator) => {
                generator.write(out, update_id);
            }
            Self::Replayed(replayed) => replayed.write(out, update_id),
        }
    }

    /// What an update is ordered by.
    pub(crate) fn chat_of(&self, update_id: u64) -> ChatKey {
        match self {
            Self::Generated(generator) => chat_of(generator.options(), update_id),
            Self::Replayed(replayed) => replayed.queue_of(update_id).1,
        }
    }

    /// The kind of an update.
    pub(crate) fn kind_of(&self, update_id: u64) -> UpdateKind {
        match self {
            Self::Generated(generator) => kind_of(generator.options(), update_id),
            Self::Replayed(replayed) => replayed.queue_of(update_id).0,
        }
    }

    /// Notes that an update will not be asked for again.
    pub(crate) fn done(&self, update_id: u64) {
        if let Self::Replayed(replayed) = self {
            replayed.done(update_id);
        }
    }
}
