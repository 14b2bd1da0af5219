//! What the field of each kind holds in a realistic update: short forms of what Telegram sends.

use ringhook::update::UpdateKind as Kind;

pub(super) fn payload(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => {
            r#"{"message_id":365,"from":{"id":1234567890},"chat":{"id":1234567890,
                "type":"private"},"date":1795219200,
                "text":"/start \u041f\u0440\u0438\u0432\u0435\u0442 \ud83d\udc4b",
                "entities":[{"offset":0,"length":6,"type":"bot_command"}]}"#
        }
        Kind::EditedMessage => {
            r#"{"message_id":365,"from":{"id":2034567891},"chat":{"id":-1001876543210,
                "type":"supergroup"},"date":1795219200,"edit_date":1795219200,
                "text":"See you at 18:30 at the caf\u00e9"}"#
        }
        Kind::ChannelPost => {
            r#"{"message_id":365,"sender_chat":{"id":-1001765432109,"type":"channel"},
                "chat":{"id":-1001765432109,"type":"channel"},"date":1795219200,
                "photo":[{"file_id":"thumb-AAMB","file_size":1253,"width":90,"height":67},
                {"file_id":"large-AAMB","file_size":88123,"width":1280,"height":960}],
                "caption":"Good morning \u2600\ufe0f","caption_entities":[{"offset":0,
                "length":12,"type":"bold"}]}"#
        }
        Kind::EditedChannelPost => {
            r#"{"message_id":365,"sender_chat":{"id":-1001765432109,"type":"channel"},
                "chat":{"id":-1001765432109,"type":"channel"},"date":1795219200,
                "edit_date":1795219200,
                "text":"Corrected: the market opens at 9, see https://example.com/market",
                "entities":[{"offset":38,"length":26,"type":"url"}]}"#
        }
        Kind::BusinessConnection => {
            r#"{"id":"Wk3xSampleConnection","user":{"id":1934567892},"user_chat_id":1934567892,
                "date":1795219200,"rights":{"can_reply":true,"can_read_messages":true},
                "can_reply":true,"is_enabled":true}"#
        }
        Kind::BusinessMessage => {
            r#"{"business_connection_id":"Wk3xSampleConnection","message_id":365,
                "from":{"id":1234567890},"chat":{"id":1234567890,"type":"private"},
                "date":1795219200,
                "text":"\u0420\u0430\u0437\u043c\u0435\u0440 M?"}"#
        }
        Kind::EditedBusinessMessage => {
            r#"{"business_connection_id":"Wk3xSampleConnection","message_id":365,
                "from":{"id":1234567890},"chat":{"id":1234567890,"type":"private"},
                "date":1795219200,"edit_date":1795219200,
                "text":"\u0420\u0430\u0437\u043c\u0435\u0440 L?"}"#
        }
        Kind::DeletedBusinessMessages => {
            r#"{"business_connection_id":"Wk3xSampleConnection","chat":{"id":1234567890,
                "type":"private"},"message_ids":[2101,2102,2105]}"#
        }
        Kind::GuestMessage => {
            r#"{"message_id":365,"from":{"id":2034567891},"chat":{"id":-1001876543210,
                "type":"supergroup"},"date":1795219200,"guest_query_id":"4300000365",
                "guest_bot_caller_user":{"id":2034567891},
                "guest_bot_caller_chat":{"id":-1001876543210,"type":"supergroup"},
                "text":"@sample_webhook_bot what is on tonight?","entities":[{"offset":0,
                "length":19,"type":"mention"}]}"#
        }
        Kind::MessageReaction => {
            r#"{"chat":{"id":-1001876543210,"type":"supergroup"},"message_id":731,
                "user":{"id":2034567891},"date":1795219200,"old_reaction":[{"type":"emoji",
                "emoji":"\ud83d\udc4d"}],"new_reaction":[{"type":"emoji",
                "emoji":"\ud83d\udd25"}]}"#
        }
        Kind::MessageReactionCount => {
            r#"{"chat":{"id":-1001765432109,"type":"channel"},"message_id":418,
                "date":1795219200,"reactions":[{"type":{"type":"emoji","emoji":"\ud83d\udc4d"},
                "total_count":37},{"type":{"type":"emoji","emoji":"\u2764"},"total_count":12}]}"#
        }
        Kind::InlineQuery => {
            r#"{"id":"5302428731365","from":{"id":1234567890},"chat_type":"sender",
                "query":"\u043a\u043e\u0442\u0438\u043a\u0438","offset":""}"#
        }
        Kind::ChosenInlineResult => {
            r#"{"from":{"id":1234567890},"inline_message_id":"AgAAABkSample0AQ",
                "query":"\u043a\u043e\u0442\u0438\u043a\u0438","result_id":"3"}"#
        }
        Kind::CallbackQuery => {
            r#"{"id":"5302428732365","from":{"id":1234567890},"message":{"message_id":2110,
                "from":{"id":5234567893},"chat":{"id":1234567890,"type":"private"},
                "date":1795219200,"text":"Pick a colour",
                "reply_markup":{"inline_keyboard":[[{"text":"Red \ud83d\udd34",
                "callback_data":"colour:red"},{"text":"Blue \ud83d\udd35",
                "callback_data":"colour:blue"}]]}},"chat_instance":"-3895710283746501928",
                "data":"colour:red"}"#
        }
        Kind::ShippingQuery => {
            r#"{"id":"5302428733365","from":{"id":1934567892},"invoice_payload":"order-4711"}"#
        }
        Kind::PreCheckoutQuery => {
            r#"{"id":"5302428734365","from":{"id":1934567892},"currency":"EUR",
                "total_amount":1999,"invoice_payload":"order-4711","shipping_option_id":"dhl"}"#
        }
        Kind::PurchasedPaidMedia => {
            r#"{"from":{"id":2034567891},"paid_media_payload":"gallery-12"}"#
        }
        Kind::Poll => {
            r#"{"id":"5357127365","question":"Which day suits you?",
                "options":[{"text":"Friday","voter_count":4},{"text":"Saturday",
                "voter_count":7}],"total_voter_count":11,"is_closed":false,"is_anonymous":true,
                "type":"regular","allows_multiple_answers":false}"#
        }
        Kind::PollAnswer => {
            r#"{"poll_id":"5357127412937359361","user":{"id":2034567891},"option_ids":[1]}"#
        }
        Kind::MyChatMember => {
            r#"{"chat":{"id":1234567890,"type":"private"},"from":{"id":1234567890},
                "date":1795219200,"old_chat_member":{"user":{"id":5234567893},
                "status":"member"},"new_chat_member":{"user":{"id":5234567893},
                "status":"kicked","until_date":0}}"#
        }
        Kind::ChatMember => {
            r#"{"chat":{"id":-1001876543210,"type":"supergroup"},"from":{"id":1934567892},
                "date":1795219200,"old_chat_member":{"user":{"id":2034567891},"status":"left"},
                "new_chat_member":{"user":{"id":2034567891},"status":"member"}}"#
        }
        Kind::ChatJoinRequest => {
            r#"{"chat":{"id":-1001876543210,"type":"supergroup"},"from":{"id":2034567891},
                "user_chat_id":2034567891,"date":1795219200}"#
        }
        Kind::ChatBoost => {
            r#"{"chat":{"id":-1001765432109,"type":"channel"},"boost":{"boost_id":"6e1f5a365",
                "add_date":1795219200,"expiration_date":1797811200,"source":{"source":"premium",
                "user":{"id":1934567892}}}}"#
        }
        Kind::RemovedChatBoost => {
            r#"{"chat":{"id":-1001765432109,"type":"channel"},"boost_id":"6e1f5a365",
                "remove_date":1795219200,"source":{"source":"premium","user":{"id":1934567892}}}"#
        }
        Kind::ManagedBot => r#"{"user":{"id":1934567892},"bot":{"id":6234567894}}"#,
        Kind::Subscription => {
            r#"{"user":{"id":1934567892},"invoice_payload":"plan-monthly","state":"canceled"}"#
        }
        Kind::StoppedMessageGeneration => {
            r#"{"chat":{"id":1234567890,"type":"private"},"draft_id":7}"#
        }
        _ => "{}",
    }
}
