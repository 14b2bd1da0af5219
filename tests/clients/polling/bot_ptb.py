"""A bot on python-telegram-bot that polls: it writes down what it handles."""

import os

from telegram import Update
from telegram.ext import Application, MessageHandler, filters


async def handle(update: Update, _):
    with open(os.environ["BOT_LOG"], "a") as log:
        log.write(f"{update.message.message_id} message {update.message.chat.id}\n")


root = os.environ["BOT_API_ROOT"]
application = (
    Application.builder()
    .token(os.environ["BOT_TOKEN"])
    .base_url(f"{root}/bot")
    .base_file_url(f"{root}/file/bot")
    .build()
)
application.add_handler(MessageHandler(filters.ALL, handle))
application.run_polling()
