//! Where updates go behind ringhook: destinations, and the routes that lead to them.
//!
//! | module | what is in it |
//! |---|---|
//! | `routes` | which update goes to which outputs |
//! | `forward` | a bot in any language behind HTTP |

pub mod forward;
