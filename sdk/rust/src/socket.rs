//! Carries out what the link decides: opens the socket, moves frames, keeps time. Decides nothing itself.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::header::{AUTHORIZATION, HeaderValue};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::call::Call;
use crate::channels::{ChannelUpdate, Follower};
use crate::error::{ApiError, Error};
use crate::event::Update;
use crate::inbox::Putter;
use crate::link::{Link, Loss, Ms, Output, Patience};
use crate::random;
use crate::transport::Address;

/// How long the system may refuse to take a frame before the connection counts as lost.
const SEND_MAX: Duration = Duration::from_secs(10);

/// What a caller asks of the task that owns the socket.
pub(crate) enum Command {
    /// Take on a call, whose updates go there.
    Start(Box<Call>, mpsc::UnboundedSender<Update>),
    /// The caller does not follow the call any more.
    Abandon(String),
    /// The caller wants the job to end.
    Cancel(String),
    /// Take on a subscription, whose updates go there.
    Subscribe(Box<Follower>, Putter),
    /// The application does not follow the channel any more.
    Unsubscribe(String),
    /// There is a new token.
    Refresh(String),
}

/// What a connection needs to know.
#[derive(Clone)]
pub(crate) struct Site {
    pub address: Address,
    pub token: Arc<RwLock<String>>,
    pub tls: Arc<rustls::ClientConfig>,
    pub patience: Patience,
}

impl Site {
    /// The token as it is now.
    pub fn token(&self) -> String {
        match self.token.read() {
            Ok(token) => token.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}

type Stream = Box<WebSocketStream<MaybeTlsStream<TcpStream>>>;

enum Socket {
    None,
    Opening(Pin<Box<dyn Future<Output = Result<Stream, Loss>> + Send>>),
    Open(Stream),
}

enum Event {
    Opened(Result<Stream, Loss>),
    Text(String),
    Nothing,
    Lost(Loss),
}

impl Socket {
    /// The next thing that happens on the socket. Dropping the future loses nothing.
    async fn event(&mut self) -> Event {
        match self {
            Self::None => std::future::pending().await,
            Self::Opening(opening) => Event::Opened(opening.await),
            Self::Open(stream) => match stream.next().await {
                Some(Ok(Message::Text(text))) => Event::Text(text.to_string()),
                Some(Ok(Message::Close(frame))) => Event::Lost(closed(frame)),
                Some(Ok(_)) => Event::Nothing,
                Some(Err(error)) => Event::Lost(failed(error.to_string())),
                None => Event::Lost(failed("the connection ended".to_owned())),
            },
        }
    }
}

fn closed(frame: Option<tungstenite::protocol::CloseFrame>) -> Loss {
    match frame {
        Some(frame) => Loss::Closed {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        },
        None => failed("closed by the server without a code".to_owned()),
    }
}

fn failed(why: String) -> Loss {
    Loss::Failed {
        why,
        retry_after_ms: None,
    }
}

/// Whom to tell what.
#[derive(Default)]
struct Listeners {
    callers: BTreeMap<String, mpsc::UnboundedSender<Update>>,
    followers: BTreeMap<String, Putter>,
}

impl Listeners {
    fn deliver(&mut self, id: &str, update: Update) {
        let last = matches!(update, Update::Ended(_));
        if let Some(caller) = self.callers.get(id) {
            // A caller that has gone says so itself, by abandoning its call.
            let _ = caller.send(update);
        }
        if last {
            self.callers.remove(id);
        }
    }

    fn tell(&mut self, id: &str, update: ChannelUpdate) {
        let last = matches!(update, ChannelUpdate::Ended { .. });
        if let Some(follower) = self.followers.get(id) {
            follower.put(update);
        }
        if last {
            self.followers.remove(id);
        }
    }
}

/// Owns the socket until every caller has gone.
pub(crate) async fn drive(site: Site, mut commands: mpsc::UnboundedReceiver<Command>) {
    let start = Instant::now();
    let now = || Ms::try_from(start.elapsed().as_millis()).unwrap_or(Ms::MAX);
    let mut link = Link::new(site.patience);
    let mut listeners = Listeners::default();
    let mut socket = Socket::None;
    loop {
        perform(&mut link, &mut socket, &mut listeners, &site, &now).await;
        let wake = link.next_timeout().map(|at| start + Duration::from_millis(at));
        let asleep = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = commands.recv() => match command {
                None => break,
                Some(Command::Start(call, caller)) => {
                    listeners.callers.insert(call.id().to_owned(), caller);
                    link.start(now(), *call);
                }
                Some(Command::Abandon(id)) => {
                    listeners.callers.remove(&id);
                    link.abandon(&id);
                }
                Some(Command::Subscribe(follower, putter)) => {
                    listeners.followers.insert(follower.id().to_owned(), putter);
                    link.subscribe(now(), *follower);
                }
                Some(Command::Unsubscribe(id)) => {
                    listeners.followers.remove(&id);
                    link.unsubscribe(&id);
                }
                Some(Command::Cancel(id)) => link.cancel(&id),
                Some(Command::Refresh(token)) => link.refresh(&token),
            },
            event = socket.event() => match event {
                Event::Opened(Ok(stream)) => {
                    socket = Socket::Open(stream);
                    link.opened(now());
                }
                Event::Opened(Err(loss)) | Event::Lost(loss) => {
                    socket = Socket::None;
                    link.lost(now(), roll(), loss);
                }
                Event::Text(text) => link.received(now(), roll(), &text),
                Event::Nothing => {}
            },
            () = asleep => link.tick(now(), roll()),
        }
    }
    if let Socket::Open(mut stream) = socket {
        // Good manners only: the server needs no close frame.
        let _ = timeout(Duration::from_secs(1), stream.close(None)).await;
    }
}

/// Without randomness the waits are in their middle: less well spread, but still waits.
fn roll() -> u64 {
    random::roll().unwrap_or(crate::backoff::CAP_MS / 2)
}

async fn perform(link: &mut Link, socket: &mut Socket, listeners: &mut Listeners, site: &Site, now: &impl Fn() -> Ms) {
    while let Some(output) = link.poll() {
        match output {
            Output::Connect => *socket = Socket::Opening(Box::pin(open(site.clone()))),
            Output::Drop => *socket = Socket::None,
            Output::Send(text) => {
                let Socket::Open(stream) = socket else {
                    continue;
                };
                let why = match timeout(SEND_MAX, stream.send(Message::text(text))).await {
                    Ok(Ok(())) => continue,
                    // The close frame of a server that closes while we write says more than the failed write.
                    Ok(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => continue,
                    Ok(Err(tungstenite::Error::Protocol(tungstenite::error::ProtocolError::SendAfterClosing))) => {
                        continue;
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the server takes no more frames".to_owned(),
                };
                *socket = Socket::None;
                link.lost(now(), roll(), failed(why));
            }
            Output::Deliver(id, update) => listeners.deliver(&id, *update),
            Output::Tell(id, update) => listeners.tell(&id, *update),
        }
    }
}

async fn open(site: Site) -> Result<Stream, Loss> {
    let url = format!("{}/v1/connect", site.address.ws);
    let refused = |error: Error| Loss::Refused(error);
    let mut request = url
        .into_client_request()
        .map_err(|error| refused(Error::Invalid(error.to_string())))?;
    request
        .headers_mut()
        .insert(AUTHORIZATION, bearer(&site.token()).map_err(refused)?);
    let connector = if site.address.secure {
        Connector::Rustls(site.tls.clone())
    } else {
        Connector::Plain
    };
    let connected = connect_async_tls_with_config(request, None, true, Some(connector)).await;
    connected.map(|(stream, _)| Box::new(stream)).map_err(upgrade_loss)
}

fn upgrade_loss(error: tungstenite::Error) -> Loss {
    let tungstenite::Error::Http(response) = error else {
        return failed(error.to_string());
    };
    let status = response.status().as_u16();
    let body = response.body().as_deref().unwrap_or_default();
    let mut error = ApiError::from_http(status, body);
    error.retry_after_ms = error.retry_after_ms.or_else(|| retry_after(response.headers()));
    let later = error.retryable || matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504) || status < 400;
    if later {
        Loss::Failed {
            why: format!("the server answered {status}: {}", error.message),
            retry_after_ms: error.retry_after_ms,
        }
    } else {
        Loss::Refused(error.into())
    }
}

/// The `Retry-After` of an answer, where it is a number of seconds. Milliseconds.
pub(crate) fn retry_after(headers: &hyper::HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    seconds.checked_mul(1000)
}

/// The header that carries `token`.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Error::Invalid("The token has characters that no token has.".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
