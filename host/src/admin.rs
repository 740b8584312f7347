//! What an operator asks of a pipeline: the operations, and the endpoint through which a running host is asked.
//!
//! `[admin] listen` and `token`: an HTTP endpoint beside that of the metrics. Every request carries `authorization: Bearer
//! TOKEN`. `GET /status` reads; `POST /shadow`, `/shadow/stop`, `/promote`, `/rollback` change, and do exactly what the commands
//! do to the state folder of a pipeline that is stopped. It loads no code from the network: files are named, and read here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chain::Chain;
use crate::config::{AdminConfig, Config};
use crate::error::{Error, Result};
use crate::generation::{Generation, short};
use crate::ledger::Entry;
use crate::ledger::entry::Cause;
use crate::pipeline::{Activated, Follow, Swap, activate_stopped};
use crate::plugin::{Engine, THREAD_STACK};
use crate::reload::trial;
use crate::shadow::{self, Order, control};
use crate::telemetry::scrape;

/// A candidate may have to be compiled before there is an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// let a candidate judge beside
    Shadow(Begin),
    /// the shadow ends
    Stop,
    /// the shadow's candidate comes into force
    Promote,
    /// an earlier generation judges again
    Rollback(Back),
}

/// `0.1` → `10`, without the noise of floating point.
pub(crate) fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

/// The body of `POST /shadow`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// the candidate's pipeline file
    pub with: PathBuf,
    /// of the batches, above 0, at most 1
    pub share: f64,
}

/// The body of `POST /rollback`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Back {
    /// the beginning of its hash; the one before where there is none
    #[serde(default)]
    pub generation: Option<String>,
}

impl Asked {
    fn path(&self) -> &'static str {
        match self {
            Asked::Shadow(_) => "/shadow",
            Asked::Stop => "/shadow/stop",
            Asked::Promote => "/promote",
            Asked::Rollback(_) => "/rollback",
        }
    }

    fn body(&self) -> String {
        let text = match self {
            Asked::Shadow(begin) => serde_json::to_string(begin),
            Asked::Rollback(back) => serde_json::to_string(back),
            Asked::Stop | Asked::Promote => Ok(String::new()),
        };
        text.expect("texts and numbers make JSON")
    }
}

/// Does what is asked to a pipeline, running or not; answers what there is to say.
pub fn carry_out(asked: &Asked, follow: &Follow, today: &Config, engine: &Engine) -> Result<String> {
    match asked {
        Asked::Shadow(Begin { with, share }) => begin(follow, today, engine, with, *share),
        Asked::Stop => {
            let order = running(follow)?;
            let hash = short(&order.candidate).to_owned();
            control::stop(follow, order, "by an operator".to_owned())?;
            Ok(format!("the shadow of generation {hash} is over"))
        }
        Asked::Promote => {
            let order = running(follow)?;
            let (hash, before) = (short(&order.candidate).to_owned(), short(&order.base).to_owned());
            Ok(match control::promote(follow, order, today, engine)? {
                Activated::At(entry) => {
                    format!("generation {hash} is in force from entry {entry} on, instead of {before}")
                }
                Activated::Already => format!("generation {hash} is in force already"),
            })
        }
        Asked::Rollback(Back { generation }) => back(follow, today, engine, generation.as_deref()),
    }
}

fn running(follow: &Follow) -> Result<Order> {
    control::read(follow)?
        .filter(Order::is_running)
        .ok_or_else(|| Error::Config("no shadow judges beside: `sluice shadow start --with FILE` begins one".into()))
}

fn begin(follow: &Follow, today: &Config, engine: &Engine, with: &std::path::Path, share: f64) -> Result<String> {
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::Config(format!("a share of the batches is above 0 and at most 1, not {share}")));
    }
    if let Some(order) = control::read(follow)?.filter(Order::is_running) {
        return Err(Error::Config(format!(
            "generation {} judges beside already, since {}: `sluice shadow stop` ends that",
            short(&order.candidate),
            order.since.format("%Y-%m-%d %H:%M:%S")
        )));
    }
    let base = active(follow)?;
    let mut candidate = Chain::load_with(with, engine.beside())?;
    candidate.config = Arc::new(candidate.config.within(today));
    let hash = candidate.generation.hash.clone();
    if hash == base {
        return Err(Error::Config(format!(
            "{} is generation {}, which is in force: there is nothing to compare",
            with.display(),
            short(&hash)
        )));
    }
    let in_force = control::revive(follow, &base, today, engine)?;
    let tried = trial::of(&candidate, &in_force, None)?;
    let (store, state) = follow.ledger.place();
    follow.runtime.block_on(candidate.generation.store(store, state))?;
    let order = Order::new(&hash, &base, share, today.shadow);
    control::write(follow, &order)?;
    let cases = match tried.cases {
        0 => String::new(),
        n => format!("{n} of {n} cases passed; "),
    };
    let changes = candidate.generation.changes(&in_force.generation).join(", ");
    Ok(format!(
        "generation {} judges beside {} on {} % of the batches\n  changed  {changes}\n  {cases}`sluice shadow status` shows \
         what differs, in {}",
        short(&hash),
        short(&base),
        percent(share),
        shadow::place(today, &order.id).written
    ))
}

fn active(follow: &Follow) -> Result<String> {
    follow.fold()?.active.ok_or_else(|| {
        Error::Config("nothing is in force yet: `sluice run` starts with what the pipeline file says".into())
    })
}

fn back(follow: &Follow, today: &Config, engine: &Engine, beginning: Option<&str>) -> Result<String> {
    let active = active(follow)?;
    let hash = match beginning {
        Some(beginning) => find(follow, beginning)?,
        None => previous(follow, &active)?,
    };
    if hash == active {
        return Ok(format!("generation {} is in force already", short(&hash)));
    }
    let (store, state) = follow.ledger.place();
    let before = follow.runtime.block_on(Generation::load(store, state, &active))?;
    let chain = control::revive(follow, &hash, today, engine)?;
    let changes = chain.generation.changes(&before).join(", ");
    Ok(match activate_stopped(follow, Arc::new(chain), Cause::Rollback)? {
        Activated::At(entry) => format!(
            "generation {} is in force from entry {entry} on, instead of {}\n  changed  {changes}",
            short(&hash),
            short(&active)
        ),
        Activated::Already => format!("generation {} is in force already", short(&hash)),
    })
}

/// The one stored generation that begins so.
pub fn find(follow: &Follow, beginning: &str) -> Result<String> {
    let (store, state) = follow.ledger.place();
    let mut known = follow.runtime.block_on(Generation::find(store, state, beginning))?;
    match (known.pop(), known.is_empty()) {
        (Some(hash), true) => Ok(hash),
        (None, _) => Err(Error::Config(format!("no generation of this pipeline begins with `{beginning}`"))),
        (Some(_), false) => {
            Err(Error::Config(format!("several generations begin with `{beginning}`: give more of it")))
        }
    }
}

/// What was in force before `active`, by the last `activate` entry that changed it.
fn previous(follow: &Follow, active: &str) -> Result<String> {
    let head = follow.fold()?.head;
    let mut last = None;
    let mut after = 0;
    while after < head {
        let page = follow.runtime.block_on(follow.ledger.page(after, head))?;
        let changed = |entry: &Entry| entry.activation.clone().filter(|a| a.previous.as_deref() != Some(active));
        last = page.iter().rev().find_map(|(_, entry)| changed(entry)).or(last);
        after = page.last().map_or(head, |(n, _)| *n);
    }
    last.and_then(|activation| activation.previous).ok_or_else(|| {
        Error::Config(format!(
            "generation {} is the first of this pipeline: there is none to go back to",
            short(active)
        ))
    })
}

/// Asks the host that runs; `None` where no endpoint is named, or nobody answers there.
pub fn ask(config: &Option<AdminConfig>, asked: &Asked) -> Result<Option<String>> {
    let Some(config) = config else { return Ok(None) };
    let asked = match asked {
        // the host may stand in another folder
        Asked::Shadow(Begin { with, share }) => {
            let with = std::path::absolute(with).unwrap_or_else(|_| with.clone());
            Asked::Shadow(Begin { with, share: *share })
        }
        Asked::Stop | Asked::Promote | Asked::Rollback(_) => asked.clone(),
    };
    let url = format!("http://{}{}", config.listen, asked.path());
    match scrape::request("POST", &url, Some(&config.token), &asked.body(), PATIENCE) {
        Ok((200, answer)) => Ok(Some(answer.trim_end().to_owned())),
        Ok((401, _)) => Err(Error::Config(format!("{url} does not know the token of `[admin] token`"))),
        Ok((_, why)) => Err(Error::Config(why.trim_end().to_owned())),
        Err(error) => {
            tracing::debug!(%error, "no host answers; the state folder is written");
            Ok(None)
        }
    }
}

/// What a running host says of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// hash of the generation that judges, as far as the watch of files knows
    pub generation: String,
    /// the last thing that was said about a change
    pub last_reload: Option<String>,
    /// why the last candidate was refused
    pub last_refused: Option<String>,
}

/// Shared by whoever changes it and whoever shows it.
pub type SharedStatus = Arc<Mutex<Status>>;

/// What the endpoint needs to do what it is asked.
#[derive(Clone)]
pub struct Host {
    /// ledger and sinks
    pub follow: Follow,
    /// hears of what changed without waiting
    pub swap: Swap,
    /// the pipeline as it runs
    pub today: Arc<Config>,
    /// compiles candidates
    pub engine: Engine,
    /// for `GET /status`
    pub status: SharedStatus,
}

/// The endpoint's routes.
pub fn router(host: Host, config: &AdminConfig) -> Router {
    let key: [u8; 32] = Sha256::digest(&config.token).into();
    let of = |asked: fn(&[u8]) -> serde_json::Result<Asked>| {
        post(move |State(host): State<Host>, body: Bytes| async move {
            match asked(&body) {
                Ok(asked) => answer(host, asked).await,
                Err(e) => (StatusCode::BAD_REQUEST, format!("the body is not what this path takes: {e}\n")),
            }
        })
    };
    Router::new()
        .route("/status", get(status))
        .route("/shadow", of(|body| serde_json::from_slice(body).map(Asked::Shadow)))
        .route("/shadow/stop", of(|_| Ok(Asked::Stop)))
        .route("/promote", of(|_| Ok(Asked::Promote)))
        .route("/rollback", of(|body| back_of(body).map(Asked::Rollback)))
        .layer(from_fn_with_state(key, may))
        .with_state(host)
}

/// Without a body: the generation before.
fn back_of(body: &[u8]) -> serde_json::Result<Back> {
    if body.is_empty() { Ok(Back::default()) } else { serde_json::from_slice(body) }
}

/// Lets in whoever knows the token. Digests are compared, so that time says nothing of the token.
async fn may(State(key): State<[u8; 32]>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let given: [u8; 32] = Sha256::digest(given).into();
    if given != key {
        return (StatusCode::UNAUTHORIZED, "say `authorization: Bearer TOKEN` with the token of `[admin] token`\n")
            .into_response();
    }
    next.run(request).await
}

async fn status(State(host): State<Host>) -> Response {
    let status = host.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (store, state) = host.follow.ledger.place();
    let order = Order::read(store, state).await.ok().flatten();
    let shadow = match &order {
        Some(order) => {
            let seen = shadow::progress(&host.follow, order).await.ok();
            serde_json::json!({ "order": order, "seen": seen })
        }
        None => serde_json::Value::Null,
    };
    let head = host.follow.ledger.head().await.ok();
    Json(serde_json::json!({
        "pipeline": host.today.name, "head": head, "generation": status.generation,
        "last_reload": status.last_reload, "last_refused": status.last_refused, "shadow": shadow,
    }))
    .into_response()
}

/// On a thread of its own: guests never run on an async thread.
async fn answer(host: Host, asked: Asked) -> (StatusCode, String) {
    let (done, wait) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("admin".into()).stack_size(THREAD_STACK);
    let started = thread.spawn(move || {
        let result = carry_out(&asked, &host.follow, &host.today, &host.engine);
        host.swap.poke();
        let _ = done.send(result);
    });
    let result = match started {
        Ok(_) => wait.await.unwrap_or_else(|_| Err(Error::Host("the thread that was asked panicked".into()))),
        Err(e) => Err(Error::environment("cannot start a thread", e)),
    };
    match result {
        Ok(said) => (StatusCode::OK, said + "\n"),
        Err(error) => (StatusCode::CONFLICT, error.sentence() + "\n"),
    }
}
