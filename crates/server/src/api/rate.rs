//! How often one caller may ask: a bucket of requests for each, which fills up again by and by. Each server counts for itself.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::keyed::DashMapStateStore,
};
use threadyard_core::ambient::Ambient;
use threadyard_engine::Error;

use super::{caller::PUBLIC, custom_app::Peer, error::ApiError};

/// How often one caller may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many requests in each second,
    pub per_second: NonZeroU32,
    /// and so many at once.
    pub burst: NonZeroU32,
}

/// Full buckets are forgotten after so many requests.
const FORGETS_EVERY: u32 = 1_024;

/// The buckets of all callers.
#[derive(Clone)]
pub(super) struct Buckets(Arc<Shared>);

struct Shared {
    limiter: RateLimiter<Caller, DashMapStateStore<Caller>, Watch, NoOpMiddleware<Nanos>>,
    watch: Watch,
    asked: AtomicU32,
}

/// What one caller may still ask, for connections on which more than one thing is asked.
#[derive(Clone)]
pub(super) struct Allowance(Buckets, Caller);

impl Allowance {
    /// Takes a request out of the caller's bucket.
    pub(super) fn take(&self) -> Result<(), Error> {
        self.0.take_of(&self.1)
    }
}

/// Who is counted.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Caller {
    User(String),
    Address(IpAddr),
}

impl Buckets {
    pub(super) fn new(rate: Rate, ambient: Ambient) -> Self {
        let watch = Watch(ambient);
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let limiter = RateLimiter::dashmap_with_clock(quota, watch.clone());
        Self(Arc::new(Shared { limiter, watch, asked: AtomicU32::new(0) }))
    }

    /// What a user may still ask.
    pub(super) fn of_user(&self, identity: &str) -> Allowance {
        Allowance(self.clone(), Caller::User(identity.to_owned()))
    }

    fn take_of(&self, caller: &Caller) -> Result<(), Error> {
        let Shared { limiter, watch, asked } = &*self.0;
        if asked.fetch_add(1, Ordering::Relaxed) % FORGETS_EVERY == FORGETS_EVERY - 1 {
            limiter.retain_recent();
        }
        limiter.check_key(caller).map_err(|not_until| {
            let retry_after = not_until.wait_time_from(watch.now());
            Error::TooMany { why: "too many requests; ask more slowly".into(), retry_after }
        })
    }
}

/// Counts by address where nobody is asked who they are.
pub(super) async fn by_address(State(buckets): State<Buckets>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let is_public = route.is_some_and(|path| PUBLIC.contains(&path.as_str()));
    if let (false, Some(Peer { address, .. })) = (is_public, request.extensions().get::<Peer>()) {
        let allowance = Allowance(buckets, Caller::Address(address.ip().to_canonical()));
        if let Err(refused) = allowance.take() {
            return ApiError(refused).into_response();
        }
        request.extensions_mut().insert(allowance);
    }
    next.run(request).await
}

/// Time as this server knows it.
#[derive(Clone)]
struct Watch(Ambient);

impl Clock for Watch {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_micros(self.0.now().0.unsigned_abs()).into()
    }
}

#[cfg(test)]
mod tests {
    use threadyard_core::testkit::ambient;

    use super::*;

    #[test]
    fn a_bucket_fills_up_again_and_is_ones_own() {
        let (ambient, clock) = ambient();
        let number = |n| NonZeroU32::new(n).unwrap();
        let buckets = Buckets::new(Rate { per_second: number(2), burst: number(3) }, ambient);
        let refused = |who: &str| match buckets.of_user(who).take() {
            Ok(()) => None,
            Err(Error::TooMany { retry_after, .. }) => Some(retry_after.as_millis()),
            Err(other) => panic!("{other:?}"),
        };
        let asked: Vec<_> = (0..4).map(|_| refused("ann")).collect();
        assert_eq!(asked, [None, None, None, Some(500)]);
        assert_eq!(refused("bob"), None);
        clock.advance(Duration::from_millis(499));
        assert_eq!(refused("ann"), Some(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!((refused("ann"), refused("ann")), (None, Some(500)));
    }

    #[test]
    fn callers_who_asked_long_ago_are_forgotten() {
        let (ambient, clock) = ambient();
        let once = NonZeroU32::MIN;
        let buckets = Buckets::new(Rate { per_second: once, burst: once }, ambient);
        for n in 1..FORGETS_EVERY {
            buckets.of_user(&n.to_string()).take().unwrap();
        }
        clock.advance(Duration::from_mins(1));
        for _ in 0..FORGETS_EVERY {
            let _ = buckets.of_user("ann").take();
        }
        assert_eq!(buckets.0.limiter.len(), 1);
    }
}
