//! HTTP/1.1 as Telegram's sender speaks it: bytes in, requests out; no sockets, no clocks.
