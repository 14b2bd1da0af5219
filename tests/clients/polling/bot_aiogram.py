"""A bot on aiogram that polls: it writes down what it handles."""

import asyncio
import os

from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import Message

dispatcher = Dispatcher()


@dispatcher.message()
async def handle(message: Message):
    with open(os.environ["BOT_LOG"], "a") as log:
        log.write(f"{message.message_id} message {message.chat.id}\n")


async def main():
    session = AiohttpSession(api=TelegramAPIServer.from_base(os.environ["BOT_API_ROOT"]))
    # One after the other, so that an update is confirmed when it has been handled.
    await dispatcher.start_polling(
        Bot(os.environ["BOT_TOKEN"], session=session), handle_as_tasks=False
    )


asyncio.run(main())
