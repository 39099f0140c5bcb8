//! Limits: how many runs of one user, or of one assistant, may wait, and how many may be executed at once.

use std::collections::{BTreeMap, HashMap};

use crate::{ids::AssistantId, runs::NewRun};

/// How many of one user's, and how many of one assistant's. Without a number there may be any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerOwner {
    /// Of one user. Without authentication, everybody is one.
    pub user: Option<u32>,
    /// Of one assistant.
    pub assistant: Option<u32>,
}

impl PerOwner {
    /// Whether there is a limit at all.
    pub fn limits(self) -> bool {
        self.user.is_some() || self.assistant.is_some()
    }
}

/// How many runs there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunLimits {
    /// So many may wait; more are refused.
    pub pending: PerOwner,
    /// So many may be executed at once; more wait.
    pub running: PerOwner,
}

/// How a run is counted, where limits count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whose run it is.
    pub user: String,
    /// How many may wait.
    pub pending: PerOwner,
}

/// So many runs wait already that another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// The user's.
    #[error("{0} runs of this user wait already; try again when some of them have begun")]
    User(u32),
    /// The assistant's.
    #[error("{0} runs of this assistant wait already; try again when some of them have begun")]
    Assistant(u32),
}

/// The places in the queue that new runs ask for: how many, and of how many there may be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places<'a> {
    /// By user.
    pub users: BTreeMap<&'a str, (u32, u32)>,
    /// By assistant.
    pub assistants: BTreeMap<AssistantId, (u32, u32)>,
}

impl<'a> Places<'a> {
    /// The places that these ask for.
    pub fn of(new: impl IntoIterator<Item = &'a NewRun>) -> Self {
        let mut places = Self::default();
        for new in new {
            let Some(Counted { user, pending }) = &new.counted else { continue };
            if let Some(limit) = pending.user {
                places.users.entry(user).or_insert((0, limit)).0 += 1;
            }
            if let Some(limit) = pending.assistant {
                places.assistants.entry(new.run.assistant_id).or_insert((0, limit)).0 += 1;
            }
        }
        places
    }
}

/// The room that is left for users and assistants to have runs executed, as the database names them.
#[derive(Debug)]
pub struct Rooms<A> {
    limits: PerOwner,
    users: HashMap<String, u32>,
    assistants: HashMap<A, u32>,
}

impl<A: Clone + Eq + std::hash::Hash> Rooms<A> {
    /// What these leave that are executed already.
    pub fn beside(limits: PerOwner, running: impl IntoIterator<Item = (String, A)>) -> Self {
        let mut rooms = Self { limits, users: HashMap::new(), assistants: HashMap::new() };
        for (user, assistant) in running {
            rooms.count(user, assistant);
        }
        rooms
    }

    /// Takes the room for a run, if there is one. A run that is not counted always has one.
    pub fn take(&mut self, run: Option<(String, A)>) -> bool {
        let Some((user, assistant)) = run else { return true };
        let has_room = |limit: Option<u32>, taken: Option<&u32>| {
            limit.is_none_or(|limit| taken.copied().unwrap_or_default() < limit)
        };
        let fits = has_room(self.limits.user, self.users.get(&user))
            && has_room(self.limits.assistant, self.assistants.get(&assistant));
        if fits {
            self.count(user, assistant);
        }
        fits
    }

    /// The users who have no room left.
    pub fn full_users(&self) -> Vec<String> {
        full(&self.users, self.limits.user)
    }

    /// The assistants that have no room left.
    pub fn full_assistants(&self) -> Vec<A> {
        full(&self.assistants, self.limits.assistant)
    }

    fn count(&mut self, user: String, assistant: A) {
        *self.users.entry(user).or_default() += 1;
        *self.assistants.entry(assistant).or_default() += 1;
    }
}

fn full<K: Clone>(taken: &HashMap<K, u32>, limit: Option<u32>) -> Vec<K> {
    let Some(limit) = limit else { return Vec::new() };
    taken.iter().filter(|(_, taken)| **taken >= limit).map(|(owner, _)| owner.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_taken_one_by_one() {
        let limits = PerOwner { user: Some(2), assistant: Some(3) };
        let mut rooms = Rooms::beside(limits, [("ann".to_owned(), 1)]);
        let mut take = |user: &str, assistant| rooms.take(Some((user.into(), assistant)));
        assert!(take("ann", 1) && !take("ann", 2), "she has two");
        assert!(take("bob", 1) && !take("cleo", 1), "the assistant has three");
        assert!(take("bob", 2) && take("cleo", 2));
        assert!(rooms.take(None));
        let mut full = rooms.full_users();
        full.sort();
        assert_eq!((full, rooms.full_assistants()), (vec!["ann".into(), "bob".into()], vec![1]));
        let mut open = Rooms::beside(PerOwner::default(), [("ann".to_owned(), 1)]);
        assert!(open.take(Some(("ann".into(), 1))) && open.full_users().is_empty());
    }
}
