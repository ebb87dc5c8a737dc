//! A minimal axum server that reads a body and answers a fixed one: the lower bound for an HTTP
//! server with these libraries.
//!
//! usage: bench-echo ANSWER_BYTES      (prints its address)

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for measuring"
)]

use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};

fn main() {
    let size: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let answer = Bytes::from(vec![b'x'; size]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let echo = move |body: Bytes| {
            let answer = answer.clone();
            async move {
                std::hint::black_box(body.len());
                ([("content-type", "application/json")], answer)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        axum::serve(
            listener,
            Router::new()
                .route("/predict", post(echo))
                .layer(DefaultBodyLimit::disable()),
        )
        .await
        .unwrap();
    });
}
