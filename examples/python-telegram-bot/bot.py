"""A bot on python-telegram-bot, behind ringhook.

BOT_TOKEN and BOT_SECRET are needed. BOT_PORT or BOT_SOCKET says where it listens, BOT_PATH under
which path, BOT_API_ROOT where the Bot API is. BOT_LOG names a file that gets a line for each update
handled, BOT_WORK makes each take up to that many milliseconds.
"""

import asyncio
import os
import random

from telegram import Update
from telegram.ext import Application, CommandHandler, ExtBot, TypeHandler

API_ROOT = os.environ.get("BOT_API_ROOT", "https://api.telegram.org")
LOG = os.environ.get("BOT_LOG")
WORK = float(os.environ.get("BOT_WORK", 0))


class Bot(ExtBot):
    """Leaves the webhook alone: `run_webhook` would set it to its own address at each start."""

    async def set_webhook(self, *_, **__):
        return True

    async def delete_webhook(self, *_, **__):
        return True


async def start(update: Update, _):
    # Always a call to the Bot API of its own: there are no method calls in answers.
    await update.effective_message.reply_text("Hello from python-telegram-bot")


async def fail(*_):
    raise RuntimeError("asked to fail")


async def record(update: Update, _):
    await asyncio.sleep(random.uniform(0, WORK) / 1000)
    if LOG:
        # A kind that this version does not know is in api_kwargs, and so in to_dict() too.
        fields = update.to_dict()
        (kind,) = fields.keys() - {"update_id"}
        with open(LOG, "a") as log:
            log.write(f"{update.update_id} {kind} {chat_of(fields[kind])}\n")


def chat_of(payload):
    """The id that an update belongs to: of a chat, a poll or a user."""
    for path in "chat.id message.chat.id poll_id from.id user.id id".split():
        value = payload
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return value
    return "-"


def main():
    bot = Bot(
        os.environ["BOT_TOKEN"],
        base_url=f"{API_ROOT}/bot",
        base_file_url=f"{API_ROOT}/file/bot",
    )
    application = Application.builder().bot(bot).build()
    application.add_handler(CommandHandler("start", start))
    application.add_handler(CommandHandler("fail", fail))
    # A group of its own, so that it sees what the others have handled.
    application.add_handler(TypeHandler(Update, record), group=1)
    if path := os.environ.get("BOT_SOCKET"):
        # A URL is asked for with `unix`; nothing is done with it here.
        where = {"unix": path, "webhook_url": "https://bot.example.com/"}
    else:
        where = {"listen": "127.0.0.1", "port": int(os.environ.get("BOT_PORT", 3000))}
    # It ends on SIGTERM, after the updates that wait in its queue.
    application.run_webhook(
        url_path=os.environ.get("BOT_PATH", "/webhook"),
        secret_token=os.environ["BOT_SECRET"],
        **where,
    )


if __name__ == "__main__":
    main()
