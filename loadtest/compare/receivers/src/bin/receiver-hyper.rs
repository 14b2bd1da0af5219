//! A receiver made of hyper, tokio-rustls and simd-json, which reads the update's id and no more.

use std::{convert::Infallible, process::ExitCode, rc::Rc};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use receivers::{BODY_BYTES_MAX, Flags, TOKEN_HEADER, is_token};
use serde::Deserialize;

#[derive(Deserialize)]
struct Update {
    #[serde(rename = "update_id")]
    id: i64,
}

async fn status(request: Request<Incoming>, secret: &str) -> StatusCode {
    if request.method() != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED;
    }
    let token = request.headers().get(TOKEN_HEADER);
    if !is_token(secret, token.map(|value| value.as_bytes())) {
        return StatusCode::FORBIDDEN;
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return StatusCode::PAYLOAD_TOO_LARGE;
    };
    let mut body: Vec<u8> = body.to_bytes().into();
    match simd_json::serde::from_slice::<Update>(&mut body) {
        Ok(update) => {
            std::hint::black_box(update.id);
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

fn main() -> ExitCode {
    let served = Flags::read().and_then(|flags| {
        let secret: Rc<str> = flags.secret_token.as_str().into();
        receivers::run(flags, move |stream| {
            let secret = Rc::clone(&secret);
            async move {
                let service = service_fn(move |request| {
                    let secret = Rc::clone(&secret);
                    async move {
                        let mut response = Response::new(Empty::<Bytes>::new());
                        *response.status_mut() = status(request, &secret).await;
                        Ok::<_, Infallible>(response)
                    }
                });
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
