"""A bot on aiogram 3, behind ringhook.

BOT_TOKEN and BOT_SECRET are needed. BOT_PORT or BOT_SOCKET says where it listens, BOT_PATH under
which path, BOT_API_ROOT where the Bot API is. BOT_BACKGROUND=1 answers before the handler has run.
BOT_LOG names a file that gets a line for each update handled, BOT_WORK makes each take up to that
many milliseconds, BOT_FAULTS makes so many in one fail before that, half of them after five seconds.
"""

import asyncio
import collections
import os
import random

from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import BufferedInputFile, Message, Update
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web

API_ROOT = os.environ.get("BOT_API_ROOT", "https://api.telegram.org")
LOG = os.environ.get("BOT_LOG")
WORK = float(os.environ.get("BOT_WORK", 0))
FAULTS = float(os.environ.get("BOT_FAULTS", 0))

dispatcher = Dispatcher()
failures = collections.Counter()


@dispatcher.message(CommandStart())
async def start(message: Message):
    # A method that is returned, not awaited, is the body of the answer.
    return message.answer("Hello from aiogram")


@dispatcher.message(Command("file"))
async def file(message: Message):
    # With a file the answer is multipart.
    return message.answer_document(BufferedInputFile(b"a small file\n" * 10, "hello.txt"))


@dispatcher.message(Command("call"))
async def call(message: Message):
    # Awaited: a call to the Bot API of its own.
    await message.answer("Hello from aiogram")


@dispatcher.message(Command("fail"))
async def fail(message: Message, command: CommandObject, event_update: Update):
    """Raises: each time, or as often as its argument says."""
    failures[event_update.update_id] += 1
    if failures[event_update.update_id] <= int(command.args or 1_000_000):
        raise RuntimeError("asked to fail")


@dispatcher.update.outer_middleware()
async def record(handler, update: Update, data):
    if random.random() < FAULTS:
        await asyncio.sleep(random.choice([0, 5]))
        raise RuntimeError("asked to fail")
    await asyncio.sleep(random.uniform(0, WORK) / 1000)
    result = await handler(update, data)
    if LOG:
        # A kind that this version does not know is in the extra fields.
        (kind,) = update.model_fields_set - {"update_id"}
        payload = getattr(update, kind)
        with open(LOG, "a") as log:
            log.write(f"{update.update_id} {kind} {chat_of(payload)}\n")
    return result


def chat_of(payload):
    """The id that an update belongs to: of a chat, a poll or a user."""
    paths = "chat.id message.chat.id poll_id from_user.id from.id user.id id"
    for path in paths.split():
        value = payload
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        if value is not None:
            return value
    return "-"


def main():
    session = AiohttpSession(api=TelegramAPIServer.from_base(API_ROOT))
    bot = Bot(os.environ["BOT_TOKEN"], session=session)
    app = web.Application()
    SimpleRequestHandler(
        dispatcher,
        bot,
        handle_in_background=os.environ.get("BOT_BACKGROUND") == "1",
        secret_token=os.environ["BOT_SECRET"],
    ).register(app, path=os.environ.get("BOT_PATH", "/webhook"))
    setup_application(app, dispatcher, bot=bot)
    # It ends on SIGTERM.
    if path := os.environ.get("BOT_SOCKET"):
        web.run_app(app, path=path)
    else:
        web.run_app(app, host="127.0.0.1", port=int(os.environ.get("BOT_PORT", 3000)))


if __name__ == "__main__":
    main()
