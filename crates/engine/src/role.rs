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

    /// Whether loops of this server look after a topic.
    pub(crate) fn looks_after(self, topic: Topic) -> bool {
        match topic {
            Topic::Runs | Topic::Crons | Topic::Cancels => self.executes(),
            Topic::Deliveries | Topic::Recoveries => self.sends(),
        }
    }
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
            assert!(Role::All.looks_after(topic) && !Role::Api.looks_after(topic));
            assert!(Role::Worker.looks_after(topic) != Role::Sender.looks_after(topic));
        }
    }
}
