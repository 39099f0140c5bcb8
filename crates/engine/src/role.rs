//! What a server does besides answering requests, where several share the work.

use threadyard_core::bus::Topic;

/// The part of one server among those that share their storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    #[default]
    All,
    /// Nothing else: others execute what is asked for here.
    Api,
    /// Executes runs, begins those of crons, and removes what is kept no longer.
    Worker,
    /// Sends webhooks.
    Sender,
}

impl Role {
    /// Whether it executes runs.
    pub fn executes(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    /// Whether it sends webhooks.
    pub fn sends(self) -> bool {
        matches!(self, Self::All | Self::Sender)
    }

    /// Which receivers this server sends deliveries to, if any. The project's own application is told by whoever has it.
    pub(crate) fn reach(self, has_own_app: bool) -> Option<Reach> {
        match (self.sends(), has_own_app) {
            (true, true) => Some(Reach::All),
            (true, false) => Some(Reach::Others),
            (false, true) => Some(Reach::OwnApp),
            (false, false) => None,
        }
    }

    /// How much of a topic loops of this server look after, which sends to these receivers.
    pub(crate) fn share(self, topic: Topic, reach: Option<Reach>) -> Share {
        match (topic, reach) {
            (Topic::Runs | Topic::Crons | Topic::Cancels, _) if self.executes() => Share::All,
            (Topic::Recoveries, _) if self.sends() => Share::All,
            (Topic::Deliveries, Some(Reach::All)) => Share::All,
            (Topic::Deliveries, Some(Reach::Others | Reach::OwnApp)) => Share::Part,
            _ => Share::Nothing,
        }
    }
}

/// How much of a topic a server looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    All,
    Part,
    Nothing,
}

/// The receivers that a server sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    All,
    /// All but the project's own application, which other servers have.
    Others,
    /// The project's own application alone.
    OwnApp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_looked_after_by_one_of_the_parts() {
        for topic in Topic::ALL {
            let share = |role: Role| role.share(topic, role.reach(true));
            assert_eq!(share(Role::All), Share::All);
            let parts = [Role::Worker, Role::Sender].map(|role| role.share(topic, role.reach(role == Role::Sender)));
            assert_eq!(parts.iter().filter(|share| **share == Share::All).count(), 1, "{topic:?}");
            assert_eq!(Role::Api.share(topic, Role::Api.reach(false)), Share::Nothing);
        }
    }

    #[test]
    fn who_has_the_own_application_sends_to_it_alone_or_besides() {
        let share = |role: Role, has_own_app| role.share(Topic::Deliveries, role.reach(has_own_app));
        assert_eq!((share(Role::Api, true), share(Role::Sender, true)), (Share::Part, Share::All));
        assert_eq!((share(Role::Api, false), share(Role::Sender, false)), (Share::Nothing, Share::Part));
    }
}
