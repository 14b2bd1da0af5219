"""Posts updates over one connection of http.client and prints what came back, as JSON.

Arguments: host, port, certificate, path, secret token, first id, how many.
Bodies are sent with Content-Length, every fifth one chunked.
"""

import http.client
import json
import ssl
import sys

host, port, cafile, path, secret, first, count = sys.argv[1:]

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(cafile)
assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED

connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
headers = {"Content-Type": "application/json", "X-Telegram-Bot-Api-Secret-Token": secret}
statuses, sockets = [], set()
for update_id in range(int(first), int(first) + int(count)):
    message = {"message_id": 1, "date": 1700000000, "chat": {"id": update_id}, "text": "Жук"}
    body = json.dumps({"update_id": update_id, "message": message}, ensure_ascii=False).encode()
    if update_id % 5 == 0:
        pieces = (body[at : at + 7] for at in range(0, len(body), 7))
        connection.request("POST", path, pieces, headers, encode_chunked=True)
    else:
        connection.request("POST", path, body, headers)
    response = connection.getresponse()
    statuses.append(response.status)
    assert response.read() == b""
    sockets.add(connection.sock.getsockname())
connection.close()

# A client that trusts no authority must fail: this proves that the check above is one.
untrusting = http.client.HTTPSConnection(
    host, int(port), context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), timeout=30
)
try:
    untrusting.connect()
    verified = False
except ssl.SSLCertVerificationError:
    verified = True

print(json.dumps({"statuses": statuses, "connections": len(sockets), "verified": verified}))
