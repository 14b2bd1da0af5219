"""Sends updates to a bot as ringhook forwards them, and prints what came back, as JSON.

    python3 send.py http://127.0.0.1:3000/webhook --secret S --count 540 --chats 8 --sent sent.txt
    python3 send.py http+unix:/run/bot.sock:/webhook --secret S --text /start

One update of a chat is in flight at a time. 5xx, 408, 425, 429 and a connection that ends are tried
again. With `--relay` a method call in an answer is sent to that Bot API unchanged, before the next
update of its chat, as ringhook does it.
"""

import argparse
import collections
import email.parser
import email.policy
import http.client
import json
import queue
import socket
import sys
import threading
import time
import urllib.parse

from updates import KINDS, UNKNOWN, updates

AGAIN = {408, 425, 429, *range(500, 600)}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def target(url, timeout):
    """Makes connections to the target, and its path."""
    if url.startswith("http+unix:"):
        socket_path, _, path = url.removeprefix("http+unix:").partition(":")
        return lambda: UnixConnection(socket_path, timeout), path or "/"
    parts = urllib.parse.urlsplit(url)
    path = parts.path or "/"
    return lambda: http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), path


def method_of(content_type, body):
    """The method that an answer calls, if it calls one."""
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind == "application/json":
        try:
            call = json.loads(body)
        except ValueError:
            return None
        method = call.get("method") if isinstance(call, dict) else None
        return method if isinstance(method, str) else None
    if kind == "multipart/form-data":
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        for part in parts.iter_parts():
            if part.get_param("name", header="content-disposition") == "method":
                return part.get_payload(decode=True).decode()
    return None


class Sender:
    def __init__(self, args, all_updates):
        self.args = args
        self.connect, self.path = target(args.target, args.timeout)
        self.lanes = collections.defaultdict(collections.deque)
        for update in all_updates:
            self.lanes[update.lane].append(update)
        self.left, self.ready = len(all_updates), queue.SimpleQueue()
        for lane in self.lanes.values():
            self.ready.put(lane)
        self.lock = threading.Lock()
        self.count = collections.Counter()
        self.statuses, self.replies, self.types = (collections.Counter() for _ in range(3))
        self.relayed, self.samples, self.failed, self.headers = collections.Counter(), {}, [], {}
        self.longest = 0.0

    def run(self):
        threads = [threading.Thread(target=self.work) for _ in range(self.args.connections)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            "updates": self.count["updates"],
            "seconds": round(time.monotonic() - begin, 2),
            "longest_ms": round(self.longest * 1000, 1),
            "connections": self.count["connections"],
            "retries": self.count["retries"],
            "statuses": dict(self.statuses),
            "content_types": dict(self.types),
            "replies": dict(self.replies),
            "relayed": dict(self.relayed),
            "reply_samples": self.samples,
            "headers": self.headers,
            "failed": self.failed[:10],
        }

    def work(self):
        connection = None
        while lane := self.ready.get():
            update = lane[0]
            connection = self.deliver(connection, update)
            lane.popleft()
            with self.lock:
                self.left -= 1
                self.count["updates"] += 1
                done = self.left == 0
            if lane:
                self.ready.put(lane)
            if done:
                for _ in range(self.args.connections):
                    self.ready.put(None)
        if connection:
            connection.close()

    def deliver(self, connection, update):
        why = None
        for attempt in range(self.args.attempts):
            if attempt:
                self.count["retries"] += 1
                time.sleep(min(0.1 * 2 ** (attempt - 1), 5))
            try:
                if connection is None:
                    connection = self.connect()
                    self.count["connections"] += 1
                status, headers, body = self.post(connection, update)
            except (OSError, http.client.HTTPException) as error:
                why = type(error).__name__
                connection.close()
                connection = None
            else:
                if headers.get("Connection", "").lower() == "close":
                    connection.close()
                    connection = None
                if 200 <= status < 300:
                    self.reply(headers, body)
                    return connection
                why = f"{status} {body[:80].decode(errors='replace')}".strip()
            with self.lock:
                self.statuses[why] += 1
            if not (why[:3].isdigit() and int(why[:3]) not in AGAIN):
                continue
            break
        with self.lock:
            self.failed.append(f"{update.id} {update.kind}: {why}")
        return connection

    def post(self, connection, update):
        # As Telegram has them, and in its order.
        headers = {}
        if self.args.secret is not None:
            headers["X-Telegram-Bot-Api-Secret-Token"] = self.args.secret
        headers |= {
            "Content-Type": self.args.content_type,
            "Content-Length": str(len(update.body)),
            "Connection": "keep-alive",
            "Accept-Encoding": "gzip, deflate",
        }
        begin = time.monotonic()
        connection.putrequest("POST", self.path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(update.body)
        response = connection.getresponse()
        body = response.read()
        with self.lock:
            self.longest = max(self.longest, time.monotonic() - begin)
            self.headers = dict(response.headers)
        return response.status, response.headers, body

    def reply(self, headers, body):
        content_type = headers.get("Content-Type")
        method = method_of(content_type, body)
        framing = "chunked" if headers.get("Transfer-Encoding") else "length"
        with self.lock:
            self.statuses[200] += 1
            kind = (content_type or "none").split("boundary")[0].strip()
            self.types[f"{kind} {framing} {'call' if method else body[:20].decode()!r}"] += 1
            if method:
                self.replies[method] += 1
                self.samples.setdefault(method, f"{content_type}: {body[:160]!r}")
        if method and self.args.relay:
            said = relay(f"{self.args.relay}/bot{self.args.token}/{method}", content_type, body)
            with self.lock:
                self.relayed[said] += 1


def relay(url, content_type, body):
    """Has a method call of an answer carried out, as it is."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request("POST", parts.path, body, {"Content-Type": content_type})
    response = connection.getresponse()
    ok = json.loads(response.read()).get("ok")
    connection.close()
    return f"{response.status} {ok}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("--secret")
    parser.add_argument("--count", type=int, default=27)
    parser.add_argument("--chats", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="the first update_id")
    parser.add_argument("--kinds", default="all", help="all, or names with commas")
    parser.add_argument("--unknown", action="store_true", help="a kind that does not exist, too")
    parser.add_argument("--text", help="only messages, with this text")
    parser.add_argument("--pad", type=int, default=0, help="lengthens --text by so many bytes")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--timeout", type=float, default=65)
    parser.add_argument("--content-type", default="application/json")
    parser.add_argument("--sent", help="a file for what was sent; check.py reads it")
    parser.add_argument("--relay", metavar="API_ROOT", help="where method calls in answers go")
    parser.add_argument("--token", default="123456:sample")
    args = parser.parse_args()
    kinds = KINDS if args.kinds == "all" else args.kinds.split(",")
    kinds = ["message"] if args.text else kinds + [UNKNOWN] * args.unknown
    text = args.text and args.text + "x" * args.pad
    sent = updates(args.count, args.chats, args.first, kinds, text)
    if args.sent:
        with open(args.sent, "a") as file:
            file.writelines(f"{update.id} {update.kind} {update.chat}\n" for update in sent)
    report = Sender(args, sent).run()
    print(json.dumps(report, indent=1))
    sys.exit(bool(report["failed"]))


if __name__ == "__main__":
    main()
