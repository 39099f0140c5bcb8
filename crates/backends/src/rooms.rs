//! Which of the deliveries that are due may be sent, as far as their receivers have room.

use std::collections::HashMap;

use threadyard_core::webhooks::ClaimDeliveries;

/// A delivery that is due, as far as its place in the queue matters.
pub(crate) struct Due {
    pub(crate) k: i64,
    pub(crate) at: i64,
    pub(crate) origin: String,
    pub(crate) retry: bool,
}

pub(crate) fn room(claim: &ClaimDeliveries, origin: &str) -> u32 {
    claim.rooms.get(origin).copied().unwrap_or(claim.per_origin)
}

/// Those for which there is room, in the order given.
pub(crate) fn pick(due: &[Due], claim: &ClaimDeliveries) -> Vec<i64> {
    let mut rooms = HashMap::new();
    let mut retries = claim.retries;
    let mut picked = Vec::new();
    for Due { k, origin, retry, .. } in due {
        if picked.len() == claim.limit as usize {
            break;
        }
        let left = rooms.entry(origin.as_str()).or_insert_with_key(|origin| room(claim, origin));
        if *left == 0 || (*retry && retries == 0) {
            continue;
        }
        *left -= 1;
        retries -= u32::from(*retry);
        picked.push(*k);
    }
    picked
}
