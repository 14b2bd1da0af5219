//! From a request's path to a bot, and the check that the request comes from where it should.

use std::collections::HashMap;

use crate::{
    config::{Bot, SecretToken},
    http::Status,
    update::BotId,
};

/// All bots of one port, by path.
#[derive(Debug)]
pub(crate) struct Router {
    routes: HashMap<Box<[u8]>, Route>,
}

#[derive(Debug)]
struct Route {
    bot: BotId,
    secret_token: Option<SecretToken>,
}

impl Router {
    /// Routes to `bots`, whose [`BotId`] is their place in the list.
    pub(crate) fn new(bots: &[Bot]) -> Self {
        let routes = bots.iter().enumerate().map(|(index, bot)| {
            let bot_id = BotId::new(u32::try_from(index).unwrap_or(u32::MAX));
            let route = Route { bot: bot_id, secret_token: bot.secret_token.clone() };
            (bot.path.as_bytes().into(), route)
        });
        Self { routes: routes.collect() }
    }

    /// The bot of a POST to `path`, or the status that tells the client why there is none:
    /// 404 for an unknown path, 405 for another method, 403 for a missing or wrong token.
    pub(crate) fn route(
        &self,
        path: &[u8],
        is_post: bool,
        presented: Option<&[u8]>,
    ) -> Result<BotId, Status> {
        let route = self.routes.get(path).ok_or(Status::NotFound)?;
        if !is_post {
            return Err(Status::MethodNotAllowed);
        }
        match &route.secret_token {
            Some(token) if !token.matches(presented.unwrap_or_default()) => Err(Status::Forbidden),
            _ => Ok(route.bot),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn path_then_method_then_token() {
        let open = Bot { name: "open".into(), path: "/open".into(), secret_token: None };
        let router = Router::new(&[Bot::new("shop", "/shop", "s3cret").unwrap(), open]);
        let route = |path: &str, post, token: Option<&str>| {
            router.route(path.as_bytes(), post, token.map(str::as_bytes))
        };
        assert_eq!(route("/shop", true, Some("s3cret")), Ok(BotId::new(0)));
        assert_eq!(route("/shop", true, Some("s3cre")), Err(Status::Forbidden));
        assert_eq!(route("/shop", true, Some("")), Err(Status::Forbidden));
        assert_eq!(route("/shop", true, None), Err(Status::Forbidden));
        assert_eq!(route("/shop", false, Some("s3cret")), Err(Status::MethodNotAllowed));
        assert_eq!(route("/shop/", true, Some("s3cret")), Err(Status::NotFound));
        assert_eq!(route("/SHOP", true, Some("s3cret")), Err(Status::NotFound));
        assert_eq!(route("/open", true, None), Ok(BotId::new(1)));
        assert_eq!(route("/open", true, Some("whatever")), Ok(BotId::new(1)));
    }
}
