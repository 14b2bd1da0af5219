//! One update of every kind, as Telegram writes them: a line feed after the id, text outside ASCII
//! as escapes.

use ringhook::update::{
    ChatKey::{self, Chat, Poll},
    UpdateKind,
};

pub(crate) struct Sample {
    pub(crate) kind: UpdateKind,
    pub(crate) chat_key: ChatKey,
    /// What the kind's field holds.
    pub(crate) payload: &'static str,
}

impl Sample {
    pub(crate) fn text(&self, id: i64) -> String {
        format!("{{\"update_id\":{id},\n\"{}\":{}}}", self.kind, self.payload)
    }
}

const fn sample(kind: UpdateKind, chat_key: ChatKey, payload: &'static str) -> Sample {
    Sample { kind, chat_key, payload }
}

pub(crate) const SAMPLES: &[Sample] = &[
    sample(
        UpdateKind::Message,
        Chat(1_234_567_890),
        r#"{"message_id":365,"from":{"id":1234567890,"is_bot":false,"first_name":"\u0410\u043d\u043d\u0430","username":"anna","language_code":"ru"},"chat":{"id":1234567890,"first_name":"\u0410\u043d\u043d\u0430","username":"anna","type":"private"},"date":1735689600,"text":"\u041f\u0440\u0438\u0432\u0435\u0442 \ud83d\udc4b","entities":[{"offset":0,"length":6,"type":"bold"}]}"#,
    ),
    sample(
        UpdateKind::EditedMessage,
        Chat(-100_987),
        r#"{"message_id":366,"from":{"id":7,"is_bot":false,"first_name":"Bo"},"chat":{"id":-100987,"title":"Club","type":"group"},"date":1735689600,"edit_date":1735689660,"text":"a \"quoted\" line\nand \\ another"}"#,
    ),
    sample(
        UpdateKind::ChannelPost,
        Chat(-1_001_234_567_890),
        r#"{"message_id":9,"sender_chat":{"id":-1001234567890,"title":"News","type":"channel"},"chat":{"id":-1001234567890,"title":"News","type":"channel"},"date":1735689600,"photo":[{"file_id":"AgAC","file_unique_id":"AQAD","file_size":1253,"width":90,"height":67},{"file_id":"AgAD","file_unique_id":"AQAE","file_size":88123,"width":1280,"height":960}],"caption":"Today"}"#,
    ),
    sample(
        UpdateKind::EditedChannelPost,
        Chat(-1_001_234_567_890),
        r#"{"message_id":9,"chat":{"id":-1001234567890,"type":"channel"},"date":1735689600,"edit_date":1735689601,"location":{"latitude":52.520008,"longitude":13.404954}}"#,
    ),
    sample(
        UpdateKind::BusinessConnection,
        Chat(42),
        r#"{"id":"Wk3x","user":{"id":42,"is_bot":false,"first_name":"Shop"},"user_chat_id":43,"date":1735689600,"rights":{"can_reply":true},"is_enabled":true}"#,
    ),
    sample(
        UpdateKind::BusinessMessage,
        Chat(77),
        r#"{"business_connection_id":"Wk3x","message_id":12,"from":{"id":78,"is_bot":false,"first_name":"C"},"chat":{"id":77,"type":"private"},"date":1735689600,"text":"order?"}"#,
    ),
    sample(
        UpdateKind::EditedBusinessMessage,
        Chat(77),
        r#"{"business_connection_id":"Wk3x","message_id":12,"chat":{"id":77,"type":"private"},"date":1735689600,"edit_date":1735689700,"text":"order!"}"#,
    ),
    sample(
        UpdateKind::DeletedBusinessMessages,
        Chat(77),
        r#"{"business_connection_id":"Wk3x","chat":{"id":77,"type":"private"},"message_ids":[12,13,14]}"#,
    ),
    sample(
        UpdateKind::GuestMessage,
        Chat(-55),
        r#"{"message_id":1,"guest_query_id":"q","from":{"id":8,"is_bot":false,"first_name":"G"},"chat":{"id":-55,"type":"group","title":"T"},"date":1735689600,"text":"@bot hi"}"#,
    ),
    sample(
        UpdateKind::MessageReaction,
        Chat(-56),
        r#"{"chat":{"id":-56,"type":"supergroup","title":"T"},"message_id":5,"user":{"id":9,"is_bot":false,"first_name":"R"},"date":1735689600,"old_reaction":[],"new_reaction":[{"type":"emoji","emoji":"\ud83d\udd25"}]}"#,
    ),
    sample(
        UpdateKind::MessageReactionCount,
        Chat(-57),
        r#"{"chat":{"id":-57,"type":"channel","title":"T"},"message_id":5,"date":1735689600,"reactions":[{"type":{"type":"emoji","emoji":"\ud83d\udc4d"},"total_count":3}]}"#,
    ),
    sample(
        UpdateKind::InlineQuery,
        Chat(1001),
        r#"{"id":"430000000000000001","from":{"id":1001,"is_bot":false,"first_name":"I"},"chat_type":"sender","query":"cats","offset":""}"#,
    ),
    sample(
        UpdateKind::ChosenInlineResult,
        Chat(1002),
        r#"{"result_id":"3","from":{"id":1002,"is_bot":false,"first_name":"I"},"inline_message_id":"AAAA","query":"cats"}"#,
    ),
    sample(
        UpdateKind::CallbackQuery,
        Chat(-1_009),
        r#"{"id":"4382","from":{"id":1003,"is_bot":false,"first_name":"P"},"message":{"message_id":3,"chat":{"id":-1009,"type":"supergroup","title":"T"},"date":0},"chat_instance":"-3","data":"yes"}"#,
    ),
    sample(
        UpdateKind::ShippingQuery,
        Chat(1004),
        r#"{"id":"1","from":{"id":1004,"is_bot":false,"first_name":"S"},"invoice_payload":"x","shipping_address":{"country_code":"DE","state":"","city":"Berlin","street_line1":"A 1","street_line2":"","post_code":"10115"}}"#,
    ),
    sample(
        UpdateKind::PreCheckoutQuery,
        Chat(1005),
        r#"{"id":"1","from":{"id":1005,"is_bot":false,"first_name":"S"},"currency":"XTR","total_amount":100,"invoice_payload":"x"}"#,
    ),
    sample(
        UpdateKind::PurchasedPaidMedia,
        Chat(1006),
        r#"{"from":{"id":1006,"is_bot":false,"first_name":"S"},"paid_media_payload":"x"}"#,
    ),
    sample(
        UpdateKind::Poll,
        Poll(5_357_127_412_937_359_361),
        r#"{"id":"5357127412937359361","question":"?","options":[{"text":"a","voter_count":1},{"text":"b","voter_count":0}],"total_voter_count":1,"is_closed":false,"is_anonymous":true,"type":"regular","allows_multiple_answers":false}"#,
    ),
    sample(
        UpdateKind::PollAnswer,
        Poll(5_357_127_412_937_359_361),
        r#"{"poll_id":"5357127412937359361","user":{"id":1007,"is_bot":false,"first_name":"V"},"option_ids":[0]}"#,
    ),
    sample(
        UpdateKind::MyChatMember,
        Chat(1008),
        r#"{"chat":{"id":1008,"type":"private"},"from":{"id":1009,"is_bot":false,"first_name":"M"},"date":1735689600,"old_chat_member":{"status":"member","user":{"id":1,"is_bot":true,"first_name":"B"}},"new_chat_member":{"status":"kicked","user":{"id":1,"is_bot":true,"first_name":"B"},"until_date":0}}"#,
    ),
    sample(
        UpdateKind::ChatMember,
        Chat(-1_010),
        r#"{"chat":{"id":-1010,"type":"supergroup","title":"T"},"from":{"id":1009,"is_bot":false,"first_name":"M"},"date":1735689600,"old_chat_member":{"status":"left","user":{"id":2}},"new_chat_member":{"status":"member","user":{"id":2}}}"#,
    ),
    sample(
        UpdateKind::ChatJoinRequest,
        Chat(-1_011),
        r#"{"chat":{"id":-1011,"type":"supergroup","title":"T"},"from":{"id":1011,"is_bot":false,"first_name":"J"},"user_chat_id":1011,"date":1735689600}"#,
    ),
    sample(
        UpdateKind::ChatBoost,
        Chat(-1_012),
        r#"{"chat":{"id":-1012,"type":"channel","title":"T"},"boost":{"boost_id":"b","add_date":1735689600,"expiration_date":1738368000,"source":{"source":"premium","user":{"id":3}}}}"#,
    ),
    sample(
        UpdateKind::RemovedChatBoost,
        Chat(-1_013),
        r#"{"chat":{"id":-1013,"type":"channel","title":"T"},"boost_id":"b","remove_date":1735689600,"source":{"source":"premium","user":{"id":3}}}"#,
    ),
    sample(
        UpdateKind::ManagedBot,
        Chat(1014),
        r#"{"user":{"id":1014,"is_bot":false,"first_name":"O"},"bot":{"id":1015,"is_bot":true,"first_name":"B"}}"#,
    ),
    sample(
        UpdateKind::Subscription,
        Chat(1016),
        r#"{"user":{"id":1016,"is_bot":false,"first_name":"O"},"state":"active"}"#,
    ),
    sample(
        UpdateKind::StoppedMessageGeneration,
        Chat(1017),
        r#"{"chat":{"id":1017,"type":"private"},"message_id":4}"#,
    ),
];
