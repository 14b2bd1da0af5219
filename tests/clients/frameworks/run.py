"""Runs a bot between `send.py` and a fake Bot API, and prints what it does in each case, as JSON.

    python3 run.py ../../../examples/aiogram -- python3 bot.py
    python3 run.py ../../../examples/aiogram --unix --env BOT_BACKGROUND=1 -- python3 bot.py

The cases: all kinds and one that does not exist, with the order by chat; method calls in answers; a
wrong secret, content type, path, method and body; a large body; handlers that raise; a stop and a
kill under load. With `--only` those that are named. One process serves all but the last.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

from send import target
from updates import Update

HERE = pathlib.Path(__file__).resolve().parent
SECRET, TOKEN = "the-secret", "123456:sample-token-of-a-bot-that-does-not-exist"
CASES = "all replies requests large failures stop kill".split()
# What a handler pretends to work, at most.
WORK_MS = 20


class Bot:
    """The program under test, with files and a Bot API of its own."""

    def __init__(self, args):
        self.args = args
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        self.log, self.sent, self.calls = folder / "bot.log", folder / "sent", folder / "calls"
        self.stderr = open(folder / "stderr", "w+")
        self.clear()
        self.api = subprocess.Popen(
            [sys.executable, HERE / "fake_bot_api.py", "--port", "0", "--log", self.calls],
            stdout=subprocess.PIPE, text=True)
        self.api_root = self.api.stdout.readline().split()[-1]
        where = {"BOT_SOCKET": str(folder / "bot.sock")} if args.unix else {"BOT_PORT": free_port()}
        self.url = (f"http+unix:{folder}/bot.sock:/webhook" if args.unix
                    else f"http://127.0.0.1:{where['BOT_PORT']}/webhook")
        env = os.environ | where | dict(pair.split("=", 1) for pair in args.env) | {
            "BOT_TOKEN": TOKEN, "BOT_SECRET": SECRET, "BOT_API_ROOT": self.api_root,
            "BOT_LOG": str(self.log), "BOT_WORK": str(WORK_MS)}
        self.process = subprocess.Popen(args.command, cwd=args.folder, env=env,
                                        stdout=self.stderr, stderr=self.stderr)
        self.wait_until_it_listens()

    def wait_until_it_listens(self):
        begin = time.monotonic()
        while True:
            try:
                connection = target(self.url, 5)[0]()
                connection.connect()
                return connection.close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > begin + 300:
                    said = self.said()
                    self.close()
                    raise SystemExit(f"the bot does not listen: {said}") from None
                time.sleep(0.1)

    def clear(self):
        """As if nothing had been sent yet. The bot opens its log anew for each line."""
        for file in (self.log, self.sent, self.calls):
            file.write_bytes(b"")

    def close(self):
        for process in (self.process, self.api):
            process.kill()
            process.wait()
        self.folder.cleanup()

    def said(self, most=600):
        self.stderr.seek(0)
        return self.stderr.read()[-most:]

    def send_command(self, *words):
        return [sys.executable, HERE / "send.py", self.url, "--secret", SECRET, "--token", TOKEN,
                "--sent", self.sent, "--relay", self.api_root, *map(str, words)]

    def send(self, *words):
        output = subprocess.run(self.send_command(*words), stdout=subprocess.PIPE).stdout
        return json.loads(output)

    def settle(self):
        """Waits until all is handled, or nothing for 15 s: some answer first and handle later."""
        size, quiet = -1, 0
        while quiet < 150 and lines(self.log) < lines(self.sent):
            quiet = 0 if size != (size := self.log.stat().st_size) else quiet + 1
            time.sleep(0.1)

    def check(self):
        self.settle()
        output = subprocess.run([sys.executable, HERE / "check.py", self.log, self.sent, "--once"],
                                stdout=subprocess.PIPE).stdout
        return json.loads(output)

    def methods(self):
        calls = map(json.loads, self.calls.read_text().splitlines())
        return [f"{call['method']} {call['content_type']} {call['fields']}"[:200] for call in calls]

    def request(self, method="POST", path="/webhook", body=None, **headers):
        """One request of its own form; its status and the beginning of its body."""
        connection = target(self.url, 20)[0]()
        body = Update(1, "message", 1).body if body is None else body
        fields = {"X-Telegram-Bot-Api-Secret-Token": SECRET, "Content-Type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {name: value for name, value in fields.items() if value is not None}
        try:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return f"{response.status} {response.read()[:60].decode(errors='replace')}".strip()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()


def lines(path):
    return path.read_bytes().count(b"\n")


def free_port():
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def case_all(bot):
    sent = bot.send("--count", bot.args.count, "--chats", 4, "--unknown", "--attempts", 4)
    return {"sent": sent, "check": bot.check(), "said": bot.said(300)}


def case_replies(bot):
    report = {}
    for text in ("/start", "/file", "/call"):
        bot.clear()
        sent = bot.send("--text", text, "--count", 2)
        bot.settle()
        keys = ("content_types", "replies", "relayed", "reply_samples", "failed")
        report[text] = {key: sent[key] for key in keys} | {"calls": bot.methods()}
    sent = bot.send("--kinds", "callback_query,inline_query", "--count", 2)
    return report | {"queries": {"replies": sent["replies"], "samples": sent["reply_samples"]}}


def case_requests(bot):
    secret = "X_Telegram_Bot_Api_Secret_Token"
    report = {
        "no secret": bot.request(**{secret: None}),
        "wrong secret": bot.request(**{secret: "wrong"}),
        "no content type": bot.request(Content_Type=None),
        "charset in the content type": bot.request(Content_Type="application/json; charset=utf-8"),
        "text/plain": bot.request(Content_Type="text/plain"),
        "other path": bot.request(path="/other"),
        "slash at the end": bot.request(path="/webhook/"),
        "query": bot.request(path="/webhook?a=b"),
        "GET": bot.request(method="GET", body=b""),
        "no JSON": bot.request(body=b"{"),
        "no update": bot.request(body=b'{"a":1}'),
        "an array": bot.request(body=b"[]"),
        "update_id of 10 digits": bot.request(body=Update(4294967290, "message", 1).body),
        "a message without what it must have": bot.request(
            body=b'{"update_id":77,"message":{"text":"/start"}}'),
    }
    return report | {"alive": bot.process.poll() is None, "said": bot.said(200)}


def case_large(bot):
    sent = bot.send("--text", "x", "--pad", 500_000, "--count", 1, "--attempts", 2)
    return {"statuses": sent["statuses"], "failed": sent["failed"], "check": bot.check()}


def case_failures(bot):
    twice = bot.send("--text", "/fail 2", "--count", 1)
    always = bot.send("--text", "/fail", "--count", 1, "--first", 10, "--attempts", 4)
    after = bot.send("--count", 27, "--first", 100, "--attempts", 4)
    return {
        "raises twice": {key: twice[key] for key in ("statuses", "retries", "failed", "headers")},
        "raises always": {key: always[key] for key in ("statuses", "retries", "failed", "headers")},
        "after it": after["statuses"],
        "check": bot.check(),
        "alive": bot.process.poll() is None,
    }


def interrupted(bot, number):
    """A signal in the middle of a load, and what was answered and not handled."""
    command = bot.send_command("--count", 4000, "--chats", 16, "--attempts", 1, "--kinds",
                               "message", "--connections", 16)
    sender = subprocess.Popen(command, stdout=subprocess.PIPE)
    begin = time.monotonic()
    while bot.log.stat().st_size < 2000 and time.monotonic() < begin + 60:
        time.sleep(0.01)
    begin = time.monotonic()
    bot.process.send_signal(number)
    try:
        code = bot.process.wait(120)
    except subprocess.TimeoutExpired:
        code = "still running after 120 s"
        bot.process.kill()
        bot.process.wait()
    seconds = round(time.monotonic() - begin, 2)
    sent = json.loads(sender.communicate()[0])
    accepted = sent["statuses"].get("200", 0)
    handled = len({line.split()[0] for line in bot.log.read_text().splitlines()})
    return {"exit": code, "seconds": seconds, "answered_200": accepted, "handled": handled,
            "statuses": sent["statuses"], "said": bot.said(300)}


def case_stop(bot):
    return interrupted(bot, signal.SIGTERM)


def case_kill(bot):
    return interrupted(bot, signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--unix", action="store_true")
    parser.add_argument("--env", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--count", type=int, default=280)
    parser.add_argument("--only", nargs="*", default=CASES, choices=CASES)
    own, _, command = (" ".join(map(shlex.quote, sys.argv[1:]))).partition(" -- ")
    args = parser.parse_args(shlex.split(own))
    args.command = shlex.split(command)
    bot = None
    try:
        for name in args.only:
            if bot is None or bot.process.poll() is not None:
                if bot:
                    bot.close()
                bot = Bot(args)
            else:
                bot.settle()
            bot.clear()
            print(json.dumps({name: globals()[f"case_{name}"](bot)}, indent=1), flush=True)
    finally:
        if bot:
            bot.close()


if __name__ == "__main__":
    main()
