//! Words and names in the scripts that people write to bots in.

use crate::rng::Rng;

/// A language with what a conversation in it is made of.
pub(super) struct Script {
    /// The user's `language_code`.
    pub(super) language: &'static str,
    pub(super) first_names: &'static [&'static str],
    pub(super) last_names: &'static [&'static str],
    pub(super) titles: &'static [&'static str],
    words: &'static [&'static str],
    /// What stands between two words.
    gap: &'static str,
}

impl Script {
    /// Picks a language; half of all text is ASCII.
    pub(super) fn pick(rng: &mut Rng) -> &'static Self {
        match rng.below(100) {
            0..50 => &ENGLISH,
            50..75 => &RUSSIAN,
            75..83 => &ARABIC,
            83..90 => &HINDI,
            90..95 => &CHINESE,
            _ => &JAPANESE,
        }
    }

    /// About `characters` characters of text, never none.
    pub(super) fn text(&self, characters: usize, rng: &mut Rng) -> String {
        let mut text = (*rng.choose(self.words)).to_owned();
        let mut length = text.chars().count();
        while length < characters {
            let word = if rng.chance(4) { rng.choose(EMOJI) } else { rng.choose(self.words) };
            let gap = if rng.chance(3) { "\n" } else { self.gap };
            text.push_str(gap);
            text.push_str(word);
            length += gap.chars().count() + word.chars().count();
        }
        text
    }
}

const EMOJI: &[&str] = &["😀", "🔥", "❤️", "👍🏽", "🎉", "🤖", "🚀", "👨‍👩‍👧", "🇩🇪", "🙏", "😂", "✅"];

const ENGLISH: Script = Script {
    language: "en",
    first_names: &["Alice", "Bob", "Carol", "Dave \"D\"", "Eve", "Mallory"],
    last_names: &["Smith", "O'Neil", "Brown", "Garcia", "van Dyk"],
    titles: &["Rust beginners", "Flat 12 & friends", "Daily deals", "Support \\ chat"],
    words: &[
        "hello",
        "bot",
        "please",
        "send",
        "me",
        "the",
        "weather",
        "for",
        "tomorrow",
        "thanks",
        "order",
        "number",
        "is",
        "not",
        "working",
        "again",
        "why?",
        "price",
        "today",
        "what",
        "about",
        "delivery",
        "to",
        "my",
        "house",
        "ok",
        "great",
        "I",
        "will",
        "wait",
        "here.",
        "https://example.com/a?b=1",
        "/help",
        "C:\\temp",
        "\"quoted\"",
    ],
    gap: " ",
};

const RUSSIAN: Script = Script {
    language: "ru",
    first_names: &["Анна", "Дмитрий", "Ольга", "Сергей", "Юля"],
    last_names: &["Иванова", "Кузнецов", "Попова", "Соколов"],
    titles: &["Дача и сад", "Новости города", "Чат поддержки"],
    words: &[
        "привет",
        "бот",
        "пожалуйста",
        "пришли",
        "погоду",
        "на",
        "завтра",
        "спасибо",
        "заказ",
        "номер",
        "не",
        "работает",
        "снова",
        "почему?",
        "цена",
        "сегодня",
        "доставка",
        "домой",
        "хорошо",
        "жду",
        "ответа",
        "когда",
        "будет",
        "готово!",
    ],
    gap: " ",
};

const ARABIC: Script = Script {
    language: "ar",
    first_names: &["محمد", "فاطمة", "علي", "ليلى"],
    last_names: &["الحسن", "خليل", "منصور"],
    titles: &["أخبار اليوم", "مجموعة العائلة"],
    words: &[
        "مرحبا",
        "شكرا",
        "الطقس",
        "غدا",
        "من",
        "فضلك",
        "أرسل",
        "لي",
        "الطلب",
        "رقم",
        "لا",
        "يعمل",
        "السعر",
        "اليوم",
        "التوصيل",
        "متى؟",
    ],
    gap: " ",
};

const HINDI: Script = Script {
    language: "hi",
    first_names: &["आरव", "प्रिया", "राहुल", "अनीता"],
    last_names: &["शर्मा", "पटेल", "सिंह"],
    titles: &["परिवार समूह", "आज की खबर"],
    words: &[
        "नमस्ते",
        "धन्यवाद",
        "कृपया",
        "मौसम",
        "कल",
        "का",
        "भेजो",
        "ऑर्डर",
        "नंबर",
        "काम",
        "नहीं",
        "कर",
        "रहा",
        "कीमत",
        "आज",
        "कब?",
    ],
    gap: " ",
};

const CHINESE: Script = Script {
    language: "zh-hans",
    first_names: &["伟", "芳", "秀英", "敏"],
    last_names: &["王", "李", "张"],
    titles: &["家庭群", "每日新闻"],
    words: &[
        "你好",
        "谢谢",
        "请",
        "发",
        "明天",
        "的",
        "天气",
        "订单",
        "号码",
        "不",
        "工作",
        "价格",
        "今天",
        "送货",
        "什么时候",
    ],
    gap: "",
};

const JAPANESE: Script = Script {
    language: "ja",
    first_names: &["さくら", "太郎", "ケンジ", "美咲"],
    last_names: &["佐藤", "鈴木", "高橋"],
    titles: &["家族グループ", "ニュース速報"],
    words: &[
        "こんにちは",
        "ありがとう",
        "ください",
        "明日",
        "の",
        "天気",
        "注文",
        "番号",
        "動きません",
        "価格",
        "今日",
        "配達",
        "いつ",
        "ですか？",
    ],
    gap: "",
};
