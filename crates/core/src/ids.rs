//! Identifiers. All are UUIDs on the wire: accepted in any spelling, written lower case with dashes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// Names a cron.
    CronId
);
id!(
    /// Names an assistant.
    AssistantId
);
id!(
    /// Names a thread.
    ThreadId
);
id!(
    /// Names a run.
    RunId
);
id!(
    /// Names a recovery of webhook deliveries.
    RecoveryId
);
id!(
    /// Names one period during which one server may write for a run.
    LeaseId
);

/// The namespace under which the official server derives the ids of default assistants from graph ids.
const DEFAULT_ASSISTANTS: Uuid = Uuid::from_u128(0x6ba7_b821_9dad_11d1_80b4_00c0_4fd4_30c8);

impl AssistantId {
    /// The id of the assistant that exists for each graph from the start.
    pub fn of_graph(graph_id: &str) -> Self {
        Self(Uuid::new_v5(&DEFAULT_ASSISTANTS, graph_id.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_assistants_have_the_ids_that_clients_know() {
        assert_eq!(AssistantId::of_graph("echo").to_string(), "046b5dc7-2108-582c-9c6c-31d556d138f0");
    }

    #[test]
    fn every_spelling_of_a_uuid_is_one_id() {
        let plain: RunId = "046B5DC72108582C9C6C31D556D138F0".parse().unwrap();
        assert_eq!(plain.to_string(), "046b5dc7-2108-582c-9c6c-31d556d138f0");
        assert!("not-a-uuid".parse::<RunId>().is_err());
    }
}
