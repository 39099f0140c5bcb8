//! Scopes: what the holder of an API key or a token may do, in LangGraph's words for resources and actions.

use crate::access::Action;

/// What several words permit together. The default permits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// A bit for each action.
    actions: u32,
    everybody: bool,
}

/// A word that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no scope; one is `user`, `reader`, `admin`, `*`, or a resource and an action such as `threads:read` or `store:*`"
)]
pub struct UnknownScope(String);

/// Words for several scopes at once.
const ROLES: [(&str, &[&str]); 3] = [
    ("admin", &["*:*"]),
    ("user", &["assistants:read", "assistants:search", "threads:*", "crons:*", "store:*"]),
    ("reader", &["*:read", "*:search", "store:get", "store:list_namespaces"]),
];

impl Scopes {
    /// Reads one word: a role, or `resource:action`, of which either may be `*`.
    pub fn read(word: &str) -> Result<Self, UnknownScope> {
        let actions = match ROLES.iter().find(|(role, _)| *role == word) {
            Some((_, scopes)) => scopes.iter().fold(0, |actions, scope| actions | matching(scope)),
            None if word == "*" => matching("*:*"),
            None => matching(word),
        };
        if actions == 0 {
            return Err(UnknownScope(word.into()));
        }
        Ok(Self { actions, everybody: word == "admin" })
    }

    /// What these words permit. Words of others, such as `openid`, permit nothing.
    pub fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        words.into_iter().filter_map(|word| Self::read(word).ok()).fold(Self::default(), |all, one| Self {
            actions: all.actions | one.actions,
            everybody: all.everybody || one.everybody,
        })
    }

    /// Whether this may be done.
    pub fn permit(self, action: Action) -> bool {
        self.actions & bit(action) != 0
    }

    /// Whether it may be done to what belongs to others.
    pub fn reach_everybody(self) -> bool {
        self.everybody
    }
}

/// The actions that `resource:action` stands for.
fn matching(scope: &str) -> u32 {
    let Some((resource, action)) = scope.split_once(':') else { return 0 };
    let is_meant = |it: &&Action| {
        let names = it.names();
        (resource == "*" || resource == names.0) && (action == "*" || action == names.1)
    };
    Action::ALL.iter().filter(is_meant).fold(0, |actions, action| actions | bit(*action))
}

fn bit(action: Action) -> u32 {
    1 << action as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(word: &str) -> Vec<String> {
        let scopes = Scopes::of([word]);
        let named = |action: &Action| format!("{}:{}", action.names().0, action.names().1);
        Action::ALL.iter().filter(|action| scopes.permit(**action)).map(named).collect()
    }

    #[test]
    fn words_stand_for_actions() {
        assert_eq!(permitted("threads:read"), ["threads:read"]);
        assert_eq!(permitted("threads:create_run"), ["threads:create_run"]);
        assert_eq!(permitted("*:search").len(), 4);
        assert_eq!(permitted("store:*").len(), 5);
        assert_eq!(permitted("*").len(), Action::ALL.len());
        assert_eq!(permitted("user").len(), 6 + 5 + 5 + 2);
        assert_eq!(permitted("reader").len(), 3 + 4 + 2);
        assert!(!permitted("user").contains(&"assistants:create".to_owned()));
    }

    #[test]
    fn only_admins_reach_what_belongs_to_others() {
        assert!(Scopes::of(["threads:read", "admin"]).reach_everybody());
        assert!(!Scopes::of(["*", "user", "reader"]).reach_everybody());
    }

    #[test]
    fn words_of_others_permit_nothing_and_are_refused_where_ours_are_expected() {
        assert_eq!(Scopes::of(["openid", "profile", ""]), Scopes::default());
        for word in ["", "openid", "threads", "threads:", ":read", "threads:fly", "runs:create", "store:read", "Admin"]
        {
            assert_eq!(Scopes::read(word), Err(UnknownScope(word.into())));
        }
    }
}
