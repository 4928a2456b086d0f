//! File descriptors: every connection in or out is one, and the usual soft limit of 1,024 is less than what the bounds
//! of `limits.rs` allow together.

use postrider_core::limits;
use rustix::process::{Resource, getrlimit, setrlimit};

/// What the bounds add up to: attempts in flight, kept connections, and as many clients as may be connected.
fn wanted() -> u64 {
    (limits::IN_FLIGHT_MAX + limits::IDLE_CONNECTIONS_MAX + limits::SERVE_CONNECTIONS_MAX + 256) as u64
}

/// Raises the soft limit to the hard one; says so if that is still too little.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum;
    limit.current = most;
    let raised = setrlimit(Resource::Nofile, limit);
    let allowed = getrlimit(Resource::Nofile).current;
    if raised.is_err() || allowed.is_some_and(|allowed| allowed < wanted()) {
        tracing::warn!(
            ?allowed,
            wanted = wanted(),
            "few file descriptors: connections may fail under load; raise the hard limit (LimitNOFILE, ulimit -Hn)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        raise_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
