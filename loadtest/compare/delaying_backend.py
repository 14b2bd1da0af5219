"""A backend that answers each request with 200 after a delay.

    delaying_backend.py PORT SECONDS

It looks at no more than it needs to find the end of a request, so that thousands can be open at once.
"""

import asyncio
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One request after the other; what a client sends ahead is answered as it comes."""

    def __init__(self, delay_s: float):
        self.delay_s = delay_s
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (head := self.received.find(b"\r\n\r\n")) >= 0:
            lines = self.received[:head].lower().split(b"\r\n")
            lengths = [line.split(b":")[1] for line in lines if line.startswith(b"content-length:")]
            end = head + 4 + int(lengths[0] if lengths else 0)
            if len(self.received) < end:
                return
            self.received = self.received[end:]
            if self.delay_s:
                asyncio.get_running_loop().call_later(self.delay_s, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main() -> None:
    port, delay_s = int(sys.argv[1]), float(sys.argv[2])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(delay_s), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


asyncio.run(main())
