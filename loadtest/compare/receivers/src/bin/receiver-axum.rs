//! A receiver made of axum, tokio-rustls and serde_json, which reads the whole update into
//! frankenstein's types.

use std::{process::ExitCode, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use frankenstein::updates::Update;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use receivers::{BODY_BYTES_MAX, Flags, TOKEN_HEADER, is_token};

/// Before the body is read.
async fn token(State(secret): State<Arc<str>>, request: Request, next: Next) -> Response {
    let token = request.headers().get(TOKEN_HEADER);
    if !is_token(&secret, token.map(|value| value.as_bytes())) {
        return StatusCode::FORBIDDEN.into_response();
    }
    next.run(request).await
}

/// What the types do not take is answered with 422 by the extractor.
async fn update(Json(update): Json<Update>) -> StatusCode {
    std::hint::black_box(&update);
    StatusCode::OK
}

fn main() -> ExitCode {
    let served = Flags::read().and_then(|flags| {
        let secret: Arc<str> = flags.secret_token.as_str().into();
        let router = Router::new()
            .route("/webhook", post(update))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(secret, token));
        receivers::run(flags, move |stream| {
            let service = TowerToHyperService::new(router.clone());
            async move {
                // However a connection ends, it is the end of that connection only.
                let _ = receivers::http().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .map_err(|error| error.to_string())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
