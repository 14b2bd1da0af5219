//! The last two lines: whether Telegram takes a certificate as uploaded, and as CA-signed.

use super::{
    Level, Line,
    trust::{Unsigned, Uploaded},
};

pub(super) fn verdicts(
    is_good: bool,
    uploaded: &Uploaded,
    signed: &Result<(), Unsigned>,
    has_other: bool,
) -> [Line; 2] {
    let mend = "mend what has failed above";
    let as_uploaded = match (uploaded.is_trusted, signed) {
        (true, _) if !is_good => Line::fail("uploaded", "refused", mend),
        (true, _) => Line::ok("uploaded", "accepted where it is uploaded with setWebhook"),
        (false, _) if uploaded.has_bad_root() => {
            Line::fail("uploaded", "refused: Telegram does not take its root for one", mend)
        }
        (false, _) if has_other => Line::fail(
            "uploaded",
            "refused: it does not lead to what is uploaded, which is all that Telegram trusts then",
            "upload its own certificate if it is self-signed, else the root of its chain; one that \
             a public authority has signed wants a webhook that was set without a certificate",
        ),
        (false, Ok(())) if is_good => {
            Line::ok("uploaded", "is not to be uploaded: it is CA-signed")
        }
        (false, _) => Line::fail(
            "uploaded",
            "refused: it is not self-signed, and its root is not in the file",
            "upload the root of its chain (and check that with --uploaded ROOT.pem)",
        ),
    };
    let (what, fix) = match signed {
        Ok(()) | Err(Unsigned::Itself) if !is_good => ("refused".to_owned(), mend),
        Ok(()) => {
            let what = "accepted as it is: a public authority has signed it";
            return [as_uploaded, Line::ok("CA-signed", what)];
        }
        Err(Unsigned::Itself) => (
            "refused where it is not uploaded: it is self-signed".to_owned(),
            "upload it, as `ringhook webhook set` does",
        ),
        Err(Unsigned::Missing(issuer)) => (
            format!("refused: \"{issuer}\" is not in the chain and is no public root"),
            "add the certificates of the issuers behind the leaf, if the authority is a public one",
        ),
        Err(Unsigned::UnknownRoot(root)) => (
            format!("refused where it is not uploaded: \"{root}\" is no public root"),
            "get a certificate from a public authority such as Let's Encrypt, or upload the root",
        ),
        Err(Unsigned::Other(why)) => (format!("refused: {why}"), mend),
    };
    // One of the ways is enough.
    let level = if is_good && uploaded.is_trusted { Level::Warn } else { Level::Fail };
    let as_signed = Line { level, check: "CA-signed", what, fix: Some(fix.to_owned()) };
    [as_uploaded, as_signed]
}
