//! What the text of a last error means, and what to do about it.
//!
//! The texts are those of the sender's public source, of OpenSSL and of the C library. Some have
//! numbers or file names around them, so they are found by what they contain.

/// One meaning of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Meaning {
    /// What has happened, as seen from here.
    pub(crate) what: &'static str,
    /// What to do, with the command for it.
    pub(crate) fix: &'static str,
}

/// The beginning of all that is said of an answer that is not 2xx.
const WRONG_RESPONSE: &str = "wrong response from the webhook: ";

/// The beginning of what setWebhook is refused with for what it found at the URL.
const BAD_WEBHOOK: &str = "Bad Request: bad webhook: ";
/// Only an answer can be so, and setWebhook asks for none.
const NO_HTTP: &str = "the answer was no HTTP that Telegram can read";

/// By the status of the answer, then what it means.
const STATUSES: &[(&str, &str, &str)] = &[
    (
        "1",
        "an interim answer (1xx), which Telegram takes for the final one",
        "something in front of ringhook sends it: let Telegram connect to ringhook directly",
    ),
    (
        "301 302 303 307 308",
        "a redirect, which Telegram does not follow; ringhook sends none, so something in front of \
         it does, or another server answers",
        "give the URL to which it redirects as bot.url, then `ringhook webhook set`",
    ),
    (
        "400",
        "the request was called malformed: plain HTTP was sent to a port with TLS, or what is in \
         front changes the request",
        "`ringhook doctor` sends one as Telegram does; look at what is in front",
    ),
    (
        "401",
        "something in front of ringhook, or another server, wants a user and a password; ringhook \
         itself answers 403",
        "take the URL's path out of that, or let Telegram connect to ringhook directly",
    ),
    (
        "403",
        "the secret token, or user and password, are not those of the config; or the sender's address \
         is not in an allow list (behind a proxy, every request has the proxy's)",
        "`ringhook webhook set` sends both again; then look at server.allow, bot.allow and \
         listener.proxy_protocol",
    ),
    (
        "404",
        "nothing is at this path or host: ringhook has no bot there, or another server answers",
        "compare path and host of [[bot]] with the URL, then `ringhook webhook set`",
    ),
    (
        "405",
        "POST is not allowed there: another server answers, or what is in front takes GET only",
        "`ringhook doctor` tells who answers at the URL",
    ),
    (
        "408",
        "a request did not come to its end in time: packets are lost, or something in front answers an \
         idle connection, which Telegram takes for the answer to the next update",
        "raise the idle timeout of what is in front above 60 s, then limits.body_timeout",
    ),
    (
        "410",
        "the answer says gone, and after 23 hours of that Telegram deletes the webhook; ringhook never \
         says so",
        "`ringhook doctor` tells who answers, then `ringhook webhook set`",
    ),
    (
        "411",
        "a server wants Content-Length, which Telegram sends: something in front takes it away",
        "let what is in front speak HTTP/1.1 and pass Content-Length on",
    ),
    (
        "413",
        "the update is larger than is taken; Telegram's are at most 512 KiB",
        "raise limits.body_bytes, or the limit of what is in front (nginx: client_max_body_size)",
    ),
    (
        "414 431",
        "URL or head of the request are longer than is taken",
        "use a shorter path, or raise limits.head_bytes or the limit of what is in front",
    ),
    (
        "415 417 505",
        "the request is not as Telegram sends it: something in front changes it",
        "let what is in front pass requests on as they are, without compressing them",
    ),
    (
        "421 426",
        "another protocol or host is wanted: the sender speaks HTTP/1.1 and names the URL's host",
        "let what is in front take HTTP/1.1 for this host",
    ),
    (
        "429",
        "a limit of what is in front; ringhook itself answers 503 where it has too much",
        "take Telegram's networks out of that limit, or lower max_connections",
    ),
    (
        "500",
        "what is in front, or another server, failed; ringhook never answers 500, whatever a handler \
         does",
        "`ringhook doctor` tells who answers; then read that server's log",
    ),
    (
        "501",
        "the method or a transfer coding is not known: something in front changes the request, or \
         another server answers",
        "`ringhook doctor` tells who answers at the URL",
    ),
    (
        "502",
        "what is in front gets no good answer from the server behind it, which is down or closes \
         connections",
        "start `ringhook serve`, and compare the address that the proxy uses with server.listen",
    ),
    (
        "503",
        "ringhook cannot take more (its journal or queues are full, or the journal's disk fails); or \
         nothing is behind the proxy in front",
        "look at updates_refused of the report and at /readyz of the admin listener",
    ),
    (
        "504",
        "what is in front waited too long for the server behind it",
        "`ringhook doctor` measures the answer; look at the load of the machine",
    ),
    (
        "52",
        "a CDN cannot reach the server behind it (52x is Cloudflare's)",
        "`ringhook doctor`; then look at the CDN's settings of origin and certificate",
    ),
    (
        "3",
        "a redirect, which Telegram does not follow",
        "give the URL that answers itself as bot.url",
    ),
    ("4", "the server refused the update", "`ringhook doctor` sends one as Telegram does"),
    ("5", "the server failed", "`ringhook doctor` tells who answers; then read that server's log"),
];

/// By words that the text contains, in lower case; the first that fits is the one.
const TEXTS: &[(&[&str], &str, &str)] = &[
    (
        &["self signed certificate in certificate chain", "self-signed certificate in certificate"],
        "the chain ends in a root that Telegram does not know",
        "upload it with `ringhook webhook set --upload`, or use a certificate of a public CA",
    ),
    (
        &["self signed certificate", "self-signed certificate"],
        "the certificate has signed itself and is not the one that was uploaded, or none was",
        "`ringhook webhook set` uploads it (with --upload in any case)",
    ),
    (
        &["hostname mismatch", "ip address mismatch", "host name mismatch"],
        "the certificate is not for the host of the URL; for an address, the name has to be of type \
         DNS",
        "`ringhook cert check` tells its names; `ringhook cert new` makes one that fits",
    ),
    (
        &["certificate has expired", "certificate expired"],
        "the certificate has expired",
        "renew it; ringhook takes the new file by itself. `ringhook cert check` tells the dates",
    ),
    (
        &["certificate is not yet valid"],
        "the certificate is not valid yet, or the clock that made it was ahead",
        "`ringhook cert check` tells the dates",
    ),
    (
        &["unable to get local issuer", "unable to get issuer", "unable to verify the first"],
        "an intermediate certificate is missing in what the server sends, or the CA is not a public \
         one",
        "use the full chain (certbot's fullchain.pem): `ringhook cert check` tells what is missing",
    ),
    (
        &["certificate verify failed"],
        "Telegram cannot verify the certificate: an intermediate is missing, it is for another host, \
         has expired, or has signed itself and was not uploaded",
        "`ringhook cert check` names which; `ringhook webhook set` uploads a self-signed one",
    ),
    (
        &["wrong version number", "packet length too long", "http request", "unknown protocol"],
        "the port does not speak TLS: a listener with tls = false, or another service",
        "`ringhook doctor`; give the port of a listener with TLS, then `ringhook webhook set`",
    ),
    (
        &[
            "handshake failure",
            "protocol version",
            "no protocols available",
            "unsupported protocol",
        ],
        "the server and Telegram have no version of TLS or no cipher in common",
        "offer TLS 1.2 or 1.3, as ringhook does: `ringhook doctor` tells who answers",
    ),
    (
        &["unrecognized name", "unrecognised name"],
        "the server does not know the host that Telegram asks for",
        "compare bot.host with the URL: `ringhook doctor`",
    ),
    (
        &["unexpected eof", "tlsv1 alert internal error", "connection was closed"],
        "the connection was closed in the middle of TLS: by a firewall, a proxy, or a server without \
         a certificate for this host",
        "`ringhook doctor` makes the handshake as Telegram does",
    ),
    (
        &["can't create an ssl context"],
        "the uploaded certificate cannot be read",
        "`ringhook cert check FILE`, then `ringhook webhook set` with a good one",
    ),
    (
        &["can't create an ssl connection", "ssl error", "ssl routines"],
        "TLS failed",
        "`ringhook doctor` makes the handshake as Telegram does",
    ),
    (
        &["read timeout expired"],
        "no answer came within 60 s: the server accepts connections and does not answer, or a \
         firewall drops what follows",
        "`ringhook doctor` measures the answer; ringhook answers before the handler has run, so look \
         at what is in front",
    ),
    (
        &["write timeout expired"],
        "the request could not be sent within 60 s: the server does not read, or packets are lost",
        "`ringhook doctor`; look at the load, at firewalls and at the MTU of a tunnel",
    ),
    (
        &["connection refused"],
        "nothing listens at the URL's address and port",
        "start `ringhook serve`, and compare its port with the URL: `ringhook doctor`",
    ),
    (
        &["connection reset by peer", "broken pipe"],
        "the connection was cut: the server was killed, or a firewall or proxy cuts connections",
        "a single one after a restart is harmless; else `ringhook doctor`",
    ),
    (
        &["connection timed out", "connect timeout", "operation timed out"],
        "nothing answers at the URL's address: a firewall drops Telegram's packets, or the address \
         is wrong",
        "open the port for 149.154.160.0/20 and 91.108.4.0/22: `ringhook doctor` looks at the rules",
    ),
    (
        &["host is unreachable", "no route to host", "network is unreachable"],
        "no way leads to the URL's address, or a firewall says so",
        "compare the address (ip_address of `ringhook webhook info`) with this server's: `ringhook \
         doctor`",
    ),
    (
        &["connection closed", "connection is closed"],
        "the server closed the connection before it answered",
        "`ringhook doctor`; look at what is in front",
    ),
    (
        &["is reserved"],
        "the host leads to a private or reserved address, to which Telegram does not connect",
        "correct the A record, or give the public address: `ringhook webhook set --ip-address IP`",
    ),
    (
        &["ipv6-only"],
        "the host has no IPv4 address, and Telegram connects to IPv4 only",
        "add an A record, or `ringhook webhook set --ip-address IP`",
    ),
    (
        &["failed to resolve host", "name or service not known", "no address associated"],
        "the URL's host has no address",
        "add an A record for it, and wait until it is known: `ringhook doctor` resolves it",
    ),
    (
        &["temporary failure in name resolution"],
        "Telegram could not ask for the host's address: the name servers of the domain do not answer",
        "look at the domain's name servers: `ringhook doctor` resolves the host",
    ),
    (
        &["invalid ip address"],
        "the ip_address of the webhook is none",
        "`ringhook webhook set` with a good ip_address, or without",
    ),
    (
        &["request entity too large"],
        "the answer was larger than Telegram reads: another server answers, or a webhook reply of \
         more than 1 MiB",
        "`ringhook doctor` tells who answers at the URL",
    ),
    (
        &["not implemented"],
        "the answer uses a transfer coding that Telegram does not read",
        "let Telegram connect to ringhook directly: something in front encodes the answer",
    ),
    (
        &["can't connect to the webhook proxy"],
        "the Bot API server cannot reach the proxy that it was started with (--webhook-proxy)",
        "look at the proxy of the Bot API server",
    ),
    (
        &["can't connect to the webhook"],
        "the Bot API server could not open a connection: its own network is down",
        "look at the machine of the Bot API server, then `ringhook doctor`",
    ),
    (
        &["url is too long"],
        "URL and secret token do not fit into the 4096 bytes that Telegram has for a request's head",
        "use a shorter path or token, then `ringhook webhook set`",
    ),
    (
        &["bad request", "failed to parse", "wrong http", "invalid http", "can't parse"],
        NO_HTTP,
        "`ringhook doctor` tells who answers at the URL",
    ),
];

/// The meaning of `description`, that of a call that was refused; `None` where it is not known
/// here.
pub(crate) fn meaning_of_refusal(description: &str) -> Option<Meaning> {
    // The rest is said of the call, and not of the webhook.
    let text = description.strip_prefix(BAD_WEBHOOK)?;
    meaning(text).filter(|meaning| meaning.what != NO_HTTP)
}

/// The meaning of `text`, a last_error_message; `None` where it is not known here.
pub(crate) fn meaning(text: &str) -> Option<Meaning> {
    let text = text.to_ascii_lowercase();
    let found = match text.split_once(WRONG_RESPONSE) {
        Some((_, answer)) => {
            // What is no response at all is told as it came.
            let status = answer.split(|c: char| !c.is_ascii_digit()).next()?;
            let fits = |&&(statuses, ..): &&(&str, _, _)| {
                statuses.split(' ').any(|known: &str| status.starts_with(known))
            };
            STATUSES.iter().filter(|_| status.len() == 3).find(fits).map(|row| (row.1, row.2))
        }
        None => {
            let fits = |&&(words, ..): &&(&[&str], _, _)| {
                words.iter().any(|words: &&str| text.contains(words))
            };
            TEXTS.iter().find(fits).map(|row| (row.1, row.2))
        }
    };
    found.map(|(what, fix)| Meaning { what, fix })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn real_texts_have_a_meaning() {
        for (text, word) in [
            ("Wrong response from the webhook: 301 Moved Permanently", "redirect"),
            ("Wrong response from the webhook: 302 Found", "redirect"),
            ("Wrong response from the webhook: 400 Bad Request", "malformed"),
            ("Wrong response from the webhook: 401 Unauthorized", "in front"),
            ("Wrong response from the webhook: 403 Forbidden", "secret token"),
            ("Wrong response from the webhook: 404 Not Found", "no bot"),
            ("Wrong response from the webhook: 405 Method Not Allowed", "POST"),
            ("Wrong response from the webhook: 408 Request Timeout", "in time"),
            ("Wrong response from the webhook: 410 Gone", "23 hours"),
            ("Wrong response from the webhook: 411 Length Required", "Content-Length"),
            ("Wrong response from the webhook: 413 Payload Too Large", "larger"),
            ("Wrong response from the webhook: 418 I'm a teapot", "refused"),
            ("Wrong response from the webhook: 429 Too Many Requests", "a limit"),
            ("Wrong response from the webhook: 500 Internal Server Error", "failed"),
            ("Wrong response from the webhook: 502 Bad Gateway", "in front"),
            ("Wrong response from the webhook: 503 Service Unavailable", "cannot take more"),
            ("Wrong response from the webhook: 504 Gateway Time-out", "too long"),
            ("Wrong response from the webhook: 521 ", "CDN"),
            ("Wrong response from the webhook: 599 ", "failed"),
            ("Wrong response from the webhook: 100 Continue", "interim"),
            ("Read timeout expired", "60 s"),
            ("Write timeout expired", "60 s"),
            ("Connection refused", "nothing listens"),
            ("Connection reset by peer", "cut"),
            ("Connection timed out", "firewall"),
            ("Host is unreachable", "no way"),
            ("No route to host", "no way"),
            ("Network is unreachable", "no way"),
            ("SSL error {error:0A000086:SSL routines::certificate verify failed}", "cannot verify"),
            (
                "SSL error {error:1416F086:SSL routines:tls_process_server_certificate:certificate \
                 verify failed}",
                "cannot verify",
            ),
            ("SSL error {certificate verify failed: self-signed certificate}", "signed itself"),
            (
                "SSL error {... certificate verify failed: self signed certificate in certificate \
              chain}",
                "root",
            ),
            ("SSL error {... certificate verify failed: Hostname mismatch}", "not for the host"),
            ("SSL error {... certificate verify failed: IP address mismatch}", "type DNS"),
            ("SSL error {... certificate verify failed: certificate has expired}", "expired"),
            ("SSL error {... unable to get local issuer certificate}", "intermediate"),
            (
                "SSL error {error:1408F10B:SSL routines:ssl3_get_record:wrong version number}",
                "port",
            ),
            ("SSL error {error:0A000126:SSL routines::unexpected eof while reading}", "closed"),
            (
                "SSL error {error:14094410:SSL routines:ssl3_read_bytes:sslv3 alert handshake \
                 failure}",
                "in common",
            ),
            ("SSL error {error:0A000438:SSL routines::tlsv1 alert internal error}", "certificate"),
            ("Can't create an SSL context: Failed to set custom certificate file", "uploaded"),
            ("Failed to resolve host: Name or service not known", "no address"),
            ("Failed to resolve host: No address associated with hostname", "no address"),
            ("Temporary failure in name resolution", "name servers"),
            ("IP address 10.0.0.1 is reserved", "reserved"),
            ("IPv6-only addresses are not allowed", "IPv4"),
            ("Request Entity Too Large: Response body is too big", "larger"),
            ("Not Implemented", "transfer coding"),
            ("Can't connect to the webhook", "could not open"),
        ] {
            let meaning = meaning(text).unwrap_or(Meaning { what: "none", fix: "" });
            assert!(meaning.what.contains(word), "{text}: {}", meaning.what);
            assert!(!meaning.fix.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_not_taken_for_a_failed_delivery() {
        let found = meaning_of_refusal(
            "Bad Request: bad webhook: Failed to resolve host: Name or service not known",
        );
        assert!(found.unwrap().what.contains("no address"));
        for text in [
            "Bad Request: chat not found",
            "Bad Request: can't parse allowed updates",
            "Bad Request: bad webhook: An HTTPS URL must be provided for webhook",
            "Bad Request: bad webhook: failed to parse URL",
            "Not Implemented",
        ] {
            assert_eq!(meaning_of_refusal(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_has_none() {
        for text in ["", "Something new", "Wrong response from the webhook: HTTP/0.9"] {
            assert_eq!(meaning(text), None, "{text}");
        }
    }
}
