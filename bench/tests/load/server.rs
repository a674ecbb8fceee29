//! A hyper server over a map: the router's data routes in HTTP/1.1 and HTTP/2, with troubles to order.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
};

/// What the server does wrong.
#[derive(Clone, Copy)]
pub(crate) enum Trouble {
    None,
    /// Answers every request with this status.
    Status(u16),
    /// Never answers.
    Silence,
    /// Ends every connection after this many requests: no keep-alive any more, GOAWAY in HTTP/2.
    CloseAfter(usize),
}

type Values = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// A running server; it ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<AtomicU64>,
    pub(crate) connections: Arc<AtomicU64>,
    values: Values,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(trouble: Trouble) -> Self {
        let (values, requests, connections) = (Values::default(), Arc::default(), Arc::default());
        let handler = Handler {
            trouble,
            values: Arc::clone(&values),
            requests: Arc::clone(&requests),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let accepted = Arc::clone(&connections);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, handler, accepted) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            requests,
            connections,
            values,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn values(&self) -> BTreeMap<String, Bytes> {
        self.values.lock().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

#[derive(Clone)]
struct Handler {
    trouble: Trouble,
    values: Values,
    requests: Arc<AtomicU64>,
}

async fn accept(listener: std::net::TcpListener, handler: Handler, accepted: Arc<AtomicU64>) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a runtime with IO");
    while let Ok((socket, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connection(socket, handler.clone()));
    }
}

/// HTTP/1.1 or HTTP/2, as the client begins it.
async fn connection(socket: TcpStream, handler: Handler) {
    let (served, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let ending = Arc::clone(&enough);
    let service = service_fn(move |request| {
        let (handler, ending) = (handler.clone(), Arc::clone(&ending));
        let number = served.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if matches!(handler.trouble, Trouble::CloseAfter(limit) if number == limit) {
                ending.notify_one();
            }
            handler.answer(request).await
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let connection = server.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    // The client's going away is how every connection ends.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = enough.notified() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

impl Handler {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(match self.trouble {
            Trouble::Silence => std::future::pending().await,
            Trouble::Status(status) => with_status(StatusCode::from_u16(status).expect("a status")),
            Trouble::None | Trouble::CloseAfter(_) => self.serve(request).await,
        })
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let key = head.uri.path().strip_prefix("/v1/kv/").map(str::to_owned);
        match (head.method, key) {
            (Method::PUT, Some(key)) => {
                let value = body.collect().await.expect("a whole body").to_bytes();
                let replaced = self.values.lock().insert(key, value).is_some();
                with_status(if replaced {
                    StatusCode::NO_CONTENT
                } else {
                    StatusCode::CREATED
                })
            }
            (Method::GET, Some(key)) => match self.values.lock().get(&key) {
                Some(value) => Response::new(Full::new(value.clone())),
                None => with_status(StatusCode::NOT_FOUND),
            },
            (Method::GET, None) if head.uri.path() == "/v1/kv" => {
                self.scan(head.uri.query().unwrap_or_default())
            }
            _ => with_status(StatusCode::BAD_REQUEST),
        }
    }

    fn scan(&self, query: &str) -> Response<Full<Bytes>> {
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        match (
            parameter("start"),
            parameter("limit").and_then(|limit| limit.parse().ok()),
        ) {
            (Some(start), Some(limit)) => {
                let values = self.values.lock();
                let keys: Vec<_> = values
                    .range(start.to_owned()..)
                    .take(limit)
                    .map(|(key, _)| key.as_str())
                    .collect();
                Response::new(Full::new(keys.join(",").into()))
            }
            _ => with_status(StatusCode::BAD_REQUEST),
        }
    }
}

fn with_status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
