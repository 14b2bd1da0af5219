//! Names, addresses and URLs, whatever they are used for.
//!
//! | file | what is in it |
//! |---|---|
//! | `address` | addresses that are not public |
//! | `idn` | hosts in letters that are not ASCII |
//! | `url` | the parts of a URL |

pub(crate) mod address;
pub(crate) mod idn;
pub(crate) mod url;
