"""Updates of every kind, as Telegram would send them, made from the samples of `ringhook send`.

    python3 updates.py --count 5000 --chats 500 --updates updates.jsonl --sent sent.txt

writes them to a file, one a line, and what `check.py` has to know of them to another one. Half of
them are of a few busy chats, and half of each chat in turn.
"""

import argparse
import json
import pathlib
import time

SAMPLES = pathlib.Path(__file__).resolve().parents[3] / "cli/src/telegram/samples"

# Where each kind has the id that it is kept in order by, as ringhook finds it.
KEYS = {
    **dict.fromkeys(
        "message edited_message channel_post edited_channel_post business_message"
        " edited_business_message deleted_business_messages guest_message message_reaction"
        " message_reaction_count my_chat_member chat_member chat_join_request chat_boost"
        " removed_chat_boost stopped_message_generation".split(),
        ("chat", "id"),
    ),
    "callback_query": ("message", "chat", "id"),
    **dict.fromkeys(
        "inline_query chosen_inline_result shipping_query pre_checkout_query"
        " purchased_paid_media".split(),
        ("from", "id"),
    ),
    **dict.fromkeys("business_connection managed_bot subscription".split(), ("user", "id")),
    "poll": ("id",),
    "poll_answer": ("poll_id",),
}
KINDS = sorted(KEYS)
UNKNOWN = "kind_of_tomorrow"
# How many chats have half of a crowd's updates.
BUSY = 20


class Update:
    """A body, with what `check.py` has to know of it."""

    def __init__(self, update_id, kind, chat, text=None):
        self.id, self.kind = update_id, kind
        if kind == UNKNOWN:
            # Nothing is known to keep it in order with.
            payload, self.chat, self.lane = {"what": "is this"}, "-", f"update {update_id}"
        else:
            payload, self.chat = sample(kind, update_id, chat)
            self.lane = self.chat
        if text is not None:
            payload["text"] = text
            payload.pop("entities", None)
            if text.startswith("/"):
                length = len(text.split()[0])
                payload["entities"] = [{"offset": 0, "length": length, "type": "bot_command"}]
        payload = json.dumps(payload, separators=(",", ":"))
        self.body = f'{{"update_id":{update_id},\n"{kind}":{payload}}}'.encode()


def sample(kind, update_id, chat):
    """What the kind's field holds for one of the chats, and the id of that chat."""
    now = int(time.time())
    text = (SAMPLES / f"{kind}.json").read_text()
    for mark, value in [('"@now"', now), ('"@month"', now + 30 * 86400), ('"@id"', update_id),
                        ("@id", update_id)]:
        text = text.replace(mark, str(value))
    payload = json.loads(text)
    *path, last = KEYS[kind]
    holder = payload
    for key in path:
        holder = holder[key]
    old = holder[last]
    if isinstance(old, str):  # a poll
        new = str(5357127000000000000 + chat)
    else:  # groups stay groups
        new = 1000000000 + chat if old > 0 else -1001000000000 - chat
    # Wherever the chat or the person is named once more, too.
    return json.loads(json.dumps(payload).replace(json.dumps(old), json.dumps(new))), str(new)


def updates(count, chats, first=1, kinds=KINDS, text=None):
    """`count` updates, each kind in turn and each chat in turn."""
    return [
        Update(first + n, kinds[n % len(kinds)], (n // len(kinds)) % chats, text)
        for n in range(count)
    ]


def crowd(count, chats):
    """`count` updates, each kind in turn, every other one of the `BUSY` first chats."""
    return [
        Update(n + 1, KINDS[n % len(KINDS)], n // 2 % (chats if n % 2 else BUSY))
        for n in range(count)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--chats", type=int, required=True)
    parser.add_argument("--updates", required=True)
    parser.add_argument("--sent", required=True)
    args = parser.parse_args()
    made = crowd(args.count, args.chats)
    with open(args.updates, "wb") as file:
        file.writelines(update.body.replace(b"\n", b"") + b"\n" for update in made)
    with open(args.sent, "w") as file:
        file.writelines(f"{update.id} {update.kind} {update.chat}\n" for update in made)


if __name__ == "__main__":
    main()
