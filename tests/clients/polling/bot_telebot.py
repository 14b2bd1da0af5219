"""A bot on pyTelegramBotAPI that polls: it writes down what it handles."""

import os
import signal

import telebot

telebot.apihelper.API_URL = os.environ["BOT_API_ROOT"] + "/bot{0}/{1}"
bot = telebot.TeleBot(os.environ["BOT_TOKEN"], threaded=False)


@bot.message_handler(func=lambda message: True)
def handle(message):
    with open(os.environ["BOT_LOG"], "a") as log:
        log.write(f"{message.message_id} message {message.chat.id}\n")


signal.signal(signal.SIGTERM, lambda *_: bot.stop_polling())
bot.remove_webhook()
bot.infinity_polling(timeout=5, long_polling_timeout=5)
