//! The objects that updates are made of: users, chats, messages and what is in them.

use super::{
    chat::ChatType,
    script::Script,
    template::{Draft, Slot},
};
use crate::rng::Rng;

/// Writes objects into one template; all of its text is in one language.
pub(super) struct Writer<'a> {
    pub(super) draft: Draft,
    pub(super) rng: &'a mut Rng,
    pub(super) chat: ChatType,
    pub(super) script: &'static Script,
}

impl Writer<'_> {
    /// The user who did it.
    pub(super) fn sender(&mut self) {
        let first_name = self.rng.choose(self.script.first_names);
        self.draft.raw(r#"{"id":"#).slot(Slot::Sender).raw(r#","is_bot":false,"first_name":"#);
        self.draft.string(first_name);
        if self.rng.chance(85) {
            let last_name = self.rng.choose(self.script.last_names);
            self.draft.raw(r#","last_name":"#).string(last_name);
        }
        if self.rng.chance(85) {
            let number = self.rng.below(1_000_000);
            self.draft.raw(r#","username":"user_"#).number(number).raw("\"");
        }
        self.draft.raw(r#","language_code":"#).string(self.script.language);
        if self.rng.chance(10) {
            self.draft.raw(r#","is_premium":true"#);
        }
        self.draft.raw("}");
    }

    /// The bot itself.
    pub(super) fn bot(&mut self) {
        self.draft.raw(r#"{"id":7000000001,"is_bot":true,"first_name":"Ringhook Assistant""#);
        self.draft.raw(r#","username":"ringhook_assistant_bot"}"#);
    }

    /// The chat in which it happened.
    pub(super) fn chat(&mut self) {
        self.draft.raw(r#"{"id":"#).raw(self.chat.id_prefix()).slot(Slot::Chat);
        if self.chat == ChatType::Private {
            let (first_name, last_name) =
                (self.rng.choose(self.script.first_names), self.rng.choose(self.script.last_names));
            self.draft.raw(r#","first_name":"#).string(first_name);
            self.draft.raw(r#","last_name":"#).string(last_name);
        } else {
            let title = self.rng.choose(self.script.titles);
            self.draft.raw(r#","title":"#).string(title);
        }
        if self.chat != ChatType::Group && self.rng.chance(50) {
            let number = self.rng.below(1_000_000);
            self.draft.raw(r#","username":"name_"#).number(number).raw("\"");
        }
        self.draft.raw(r#","type":"#).string(self.chat.name()).raw("}");
    }

    /// A whole message, with members put before its own.
    pub(super) fn message(&mut self, first: &str, edited: bool) {
        self.draft.raw("{").raw(first).raw(r#""message_id":"#).slot(Slot::Message);
        if self.chat != ChatType::Channel {
            self.draft.raw(r#","from":"#);
            self.sender();
        } else {
            self.draft.raw(r#","sender_chat":"#);
            self.chat();
        }
        self.draft.raw(r#","chat":"#);
        self.chat();
        self.date();
        if edited {
            self.draft.raw(r#","edit_date":"#).slot(Slot::Date);
        }
        match self.rng.below(100) {
            0..10 => self.forward_origin(),
            10..28 => self.reply_to_message(),
            _ => {}
        }
        self.media_or_text();
        if self.chat == ChatType::Channel || self.rng.chance(6) {
            self.reply_markup();
        }
        self.draft.raw("}");
    }

    /// A message with one of an album's photos.
    pub(super) fn photo_of_an_album(&mut self) {
        self.draft.raw(r#"{"message_id":"#).slot(Slot::Message);
        if self.chat != ChatType::Channel {
            self.draft.raw(r#","from":"#);
            self.sender();
        }
        self.draft.raw(r#","chat":"#);
        self.chat();
        self.date();
        self.draft.raw(r#","media_group_id":""#).slot(Slot::LongId).raw("\"");
        self.photo();
        self.draft.raw("}");
    }

    /// The message under a button, or one that was answered: short, and without answers of its own.
    pub(super) fn old_message(&mut self) {
        self.draft.raw(r#"{"message_id":"#).slot(Slot::Reply).raw(r#","from":"#);
        self.bot();
        self.draft.raw(r#","chat":"#);
        self.chat();
        self.date();
        self.text("text", 160);
        self.reply_markup();
        self.draft.raw("}");
    }

    pub(super) fn date(&mut self) {
        self.draft.raw(r#","date":"#).slot(Slot::Date);
    }

    /// `,"name":"..."` of up to `longest` characters, now and then with entities.
    pub(super) fn text(&mut self, name: &str, longest: usize) {
        let length = self.length(longest);
        let text = self.script.text(length, self.rng);
        self.draft.raw(",\"").raw(name).raw("\":").string(&text);
        if self.rng.chance(35) {
            let entities = if name == "text" { "entities" } else { "caption_entities" };
            self.entities(entities, text.encode_utf16().count() as u64);
        }
    }

    /// Most texts are short, a few are very long.
    fn length(&mut self, longest: usize) -> usize {
        let length = match self.rng.below(100) {
            0..34 => self.rng.between(2, 40),
            34..70 => self.rng.between(40, 240),
            _ => self.rng.between(240, 1600),
        };
        (length as usize).min(longest)
    }

    /// `units` is the length of the text as Telegram counts it: in UTF-16 units.
    fn entities(&mut self, name: &str, units: u64) {
        let count = self.rng.between(1, 5);
        self.draft.raw(",\"").raw(name).raw("\":[");
        for index in 0..count {
            let offset = self.rng.below(units);
            let length = self.rng.between(1, units - offset);
            let kind = self
                .rng
                .choose(&["bold", "italic", "url", "hashtag", "code", "mention", "spoiler"]);
            self.draft.raw(if index == 0 { "" } else { "," });
            self.draft.raw(r#"{"offset":"#).number(offset).raw(r#","length":"#).number(length);
            self.draft.raw(r#","type":"#).string(kind).raw("}");
        }
        self.draft.raw("]");
    }

    fn media_or_text(&mut self) {
        match self.rng.below(100) {
            0..72 => self.text("text", 1600),
            72..84 => self.photo(),
            84..89 => self.sticker(),
            89..94 => self.document(),
            94..97 => self.voice(),
            97..99 => self.location(),
            _ => self.contact(),
        }
    }

    pub(super) fn photo(&mut self) {
        self.draft.raw(r#","photo":["#);
        for (index, width) in [90, 320, 800, 1280].into_iter().enumerate() {
            self.draft.raw(if index == 0 { "{" } else { ",{" });
            self.file();
            self.draft.raw(r#","width":"#).number(width);
            self.draft.raw(r#","height":"#).number(width * 3 / 4).raw("}");
        }
        self.draft.raw("]");
        if self.rng.chance(60) {
            self.text("caption", 400);
        }
    }

    fn sticker(&mut self) {
        self.draft.raw(r#","sticker":{"width":512,"height":512,"emoji":"#).string("😂");
        self.draft.raw(r#","set_name":"Animals","is_animated":true,"is_video":false,"#);
        self.draft.raw(r#""type":"regular","thumbnail":{"#);
        self.file();
        self.draft.raw(r#","width":128,"height":128},"#);
        self.file();
        self.draft.raw("}");
    }

    fn document(&mut self) {
        self.draft.raw(r#","document":{"file_name":"#);
        let name = format!("{}.pdf", self.script.text(12, self.rng).replace('\n', " "));
        self.draft.string(&name).raw(r#","mime_type":"application/pdf","#);
        self.file();
        self.draft.raw("}");
        if self.rng.chance(40) {
            self.text("caption", 300);
        }
    }

    fn voice(&mut self) {
        let seconds = self.rng.between(1, 120);
        self.draft.raw(r#","voice":{"duration":"#).number(seconds);
        self.draft.raw(r#","mime_type":"audio/ogg","#);
        self.file();
        self.draft.raw("}");
    }

    fn location(&mut self) {
        let (latitude, longitude) = (self.rng.below(89), self.rng.below(179));
        self.draft.raw(r#","location":{"latitude":-"#).number(latitude);
        self.draft.raw(r#".408312,"longitude":"#).number(longitude).raw(".76009}");
    }

    fn contact(&mut self) {
        let (number, name) =
            (self.rng.between(10_000_000, 99_999_999), self.rng.choose(self.script.first_names));
        self.draft.raw(r#","contact":{"phone_number":"+49"#).number(number);
        self.draft.raw(r#"","first_name":"#).string(name).raw("}");
    }

    /// The identifiers and size of a file, without braces.
    fn file(&mut self) {
        let (id, unique_id) = (self.token(72), self.token(14));
        let size = self.rng.between(900, 900_000);
        self.draft.raw(r#""file_id":"AgAC"#).raw(&id);
        self.draft.raw(r#"","file_unique_id":"AQAD"#).raw(&unique_id);
        self.draft.raw(r#"","file_size":"#).number(size);
    }

    /// Letters and digits that mean nothing.
    pub(super) fn token(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..length).map(|_| char::from(*self.rng.choose(LETTERS))).collect()
    }

    fn forward_origin(&mut self) {
        self.draft.raw(r#","forward_origin":{"type":"user","sender_user":"#);
        self.sender();
        self.date();
        self.draft.raw("}");
    }

    fn reply_to_message(&mut self) {
        self.draft.raw(r#","reply_to_message":"#);
        self.old_message();
    }

    /// Rows of buttons.
    fn reply_markup(&mut self) {
        let rows = self.rng.between(1, 3);
        self.draft.raw(r#","reply_markup":{"inline_keyboard":["#);
        for row in 0..rows {
            let (text, data) = (self.script.text(8, self.rng), self.token(16));
            self.draft.raw(if row == 0 { "" } else { "," });
            self.draft.raw(r#"[{"text":"#).string(&text);
            self.draft.raw(r#","callback_data":"#).string(&data).raw("}]");
        }
        self.draft.raw("]}");
    }
}
