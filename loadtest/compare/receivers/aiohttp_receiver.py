"""A receiver made of aiohttp: the token is compared in constant time, the body is parsed.

    python3 aiohttp_receiver.py HOST PORT CERT KEY SECRET-TOKEN-FILE
"""

import hmac
import pathlib
import ssl
import sys

from aiohttp import web

BODY_BYTES_MAX = 1 << 20


def main() -> None:
    host, port, cert, key, secret_file = sys.argv[1:]
    secret = pathlib.Path(secret_file).read_text().strip().encode()

    async def update(request: web.Request) -> web.Response:
        token = request.headers.get("X-Telegram-Bot-Api-Secret-Token", "")
        if not hmac.compare_digest(token.encode("utf-8", "surrogateescape"), secret):
            return web.Response(status=403)
        try:
            body = await request.json()
        except ValueError:
            return web.Response(status=400)
        ok = isinstance(body, dict) and isinstance(body.get("update_id"), int)
        return web.Response(status=200 if ok else 400)

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_post("/webhook", update)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    # An access log would be most of the work; 75 s is longer than Telegram keeps an idle connection.
    web.run_app(
        app,
        host=host,
        port=int(port),
        ssl_context=context,
        access_log=None,
        keepalive_timeout=75,
        backlog=1024,
        print=None,
    )


main()
