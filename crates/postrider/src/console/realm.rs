//! Whose pages: the console's or the customers' portal's. The address says it, so what is asked for in one is never
//! looked up with the session of the other.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Realm {
    Console,
    Portal,
}

impl Realm {
    /// Of a path, as it is matched.
    pub(super) fn of(path: &str) -> Realm {
        let below = path.strip_prefix(Realm::Portal.base());
        if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) { Realm::Portal } else { Realm::Console }
    }

    /// Where its pages begin.
    pub(super) fn base(self) -> &'static str {
        match self {
            Realm::Console => "/settings",
            Realm::Portal => "/portal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portal_is_what_is_below_its_path() {
        for path in ["/portal", "/portal/", "/portal/webhooks", "/portal/enter/x"] {
            assert_eq!(Realm::of(path), Realm::Portal, "{path}");
        }
        for path in ["/", "/settings/portal", "/portals", "/portal-x", "/settings", "/assets/x", "/%70ortal"] {
            assert_eq!(Realm::of(path), Realm::Console, "{path}");
        }
    }
}
