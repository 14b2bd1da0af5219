"""A Bot API that answers what the frameworks ask for, and writes down who asked.

    python3 fake_bot_api.py --port 8081 --log calls.jsonl

Each line of the log is a call: method, token, content type, length, the fields with the length of
each, and the values of those that are short. `--slow MS` delays each answer, `--refuse METHOD`
answers a method with 429.
"""

import argparse
import email.parser
import email.policy
import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ME = {
    "id": 5234567893,
    "is_bot": True,
    "first_name": "Sample Bot",
    "username": "sample_webhook_bot",
    "can_join_groups": True,
    "can_read_all_group_messages": False,
    "supports_inline_queries": True,
    "can_connect_to_business": True,
    "has_main_web_app": False,
    "has_topics_enabled": False,
    "allows_users_to_create_topics": False,
    "can_manage_bots": False,
}
STATE = {"url": "", "message_id": 0}
LOCK = threading.Lock()


def fields(content_type, body):
    """The fields of a call, whichever of the four forms it has."""
    kind = content_type.split(";")[0].strip().lower()
    if kind == "application/json":
        return json.loads(body or b"{}")
    if kind == "application/x-www-form-urlencoded":
        return dict(urllib.parse.parse_qsl(body.decode()))
    if kind == "multipart/form-data":
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        found = {}
        for part in parts.iter_parts():
            name = part.get_param("name", header="content-disposition")
            data = part.get_payload(decode=True)
            is_file = part.get_filename() is not None
            found[name] = data if is_file else data.decode()
        return found
    return {}


def size(value):
    return len(value if isinstance(value, (bytes, str)) else json.dumps(value))


def short(given):
    """The short ones as text, whether they came as text or as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value)
            for name, value in given.items()
            if not isinstance(value, bytes) and size(value) <= 100}


def result(method, given):
    name = method.lower()
    if name == "getme":
        return ME
    if name == "getwebhookinfo":
        return {"url": STATE["url"], "has_custom_certificate": False, "pending_update_count": 0}
    if name == "setwebhook":
        STATE["url"] = given.get("url", "")
        return True
    if name == "deletewebhook":
        STATE["url"] = ""
        return True
    if name == "getupdates":
        time.sleep(min(float(given.get("timeout", 0)), 1))
        return []
    if name == "sendchataction" or not name.startswith("send"):
        return True
    with LOCK:
        STATE["message_id"] += 1
        number = STATE["message_id"]
    chat = int(given.get("chat_id", 1))
    kind = "private" if chat > 0 else "supergroup"
    message = {
        "message_id": number,
        "from": ME,
        "chat": {"id": chat, "type": kind, "first_name": "Anna", "title": "Group"},
        "date": int(time.time()),
        "text": str(given.get("text", "")),
    }
    if "document" in given:
        del message["text"]
        message["document"] = {"file_id": "sample", "file_unique_id": "sample"}
    return message


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self.read_chunks()
        head, _, method = url.path.strip("/").partition("/")
        given, fault = dict(urllib.parse.parse_qsl(url.query)), None
        try:
            given |= fields(self.headers.get("Content-Type") or "", body)
        except ValueError as error:
            fault = str(error)
        call = {
            "method": method,
            "token": head.removeprefix("bot"),
            "content_type": self.headers.get("Content-Type"),
            "length": len(body),
            "fields": {name: size(value) for name, value in given.items()},
            "values": short(given),
            "fault": fault,
        }
        with LOCK, open(self.server.args.log, "a") as log:
            log.write(json.dumps(call) + "\n")
        time.sleep(self.server.args.slow / 1000)
        if method in self.server.args.refuse:
            status, said = 429, {"ok": False, "error_code": 429,
                                 "description": "Too Many Requests: retry after 1",
                                 "parameters": {"retry_after": 1}}
        elif fault or not head.startswith("bot") or not method:
            status, said = 400, {"ok": False, "error_code": 400, "description": "Bad Request"}
        else:
            status, said = 200, {"ok": True, "result": result(method, given)}
        said = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = answer

    def read_chunks(self):
        body = b""
        while length := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--log", default="calls.jsonl")
    parser.add_argument("--slow", type=float, default=0, help="milliseconds before each answer")
    parser.add_argument("--refuse", nargs="*", default=[], help="methods answered with 429")
    args = parser.parse_args()
    server = Server(("127.0.0.1", args.port), Api)
    server.args, server.daemon_threads = args, True
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
