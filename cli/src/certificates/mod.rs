//! Certificates as files and as others see them: made, imported, examined.
//!
//! | file | what is in it |
//! |---|---|
//! | `make`, `import` | new ones, and those out of PKCS#12 |
//! | `examine`, `look` | whether Telegram would accept one, and what a server shows |
//! | `served` | the chain that a server has |
//! | `uploaded` | what Telegram's sender would say of one that was uploaded |

pub(crate) mod examine;
pub(crate) mod import;
pub(crate) mod look;
pub(crate) mod make;
pub(crate) mod served;
pub(crate) mod uploaded;
