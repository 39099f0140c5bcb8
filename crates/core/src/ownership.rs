//! What belongs to whom where no code of the project decides: a caller has what they made, and nothing else.

use serde_json::json;

use crate::{
    access::{Action, Verdict},
    json::{Object, RawJson, RawObject, Value, raw},
    metadata_filter::MetadataFilter,
};

/// The key of metadata that names the owner.
const OWNER: &str = "owner";
/// The owner of assistants that everybody may use.
pub const EVERYBODY: &str = "*";
/// Who made the assistants of the project's graphs, and the key of metadata that says so.
const MAKER: (&str, &str) = ("created_by", "system");

/// What a caller who has only what is theirs may do this to, and what becomes of what was asked for.
pub fn own(identity: &str, action: Action, value: &RawObject) -> Verdict {
    match action {
        Action::StorePut
        | Action::StoreGet
        | Action::StoreSearch
        | Action::StoreDelete
        | Action::StoreListNamespaces => Verdict { edits: below(identity, value), filter: MetadataFilter::default() },
        Action::AssistantsRead | Action::AssistantsSearch => {
            Verdict { edits: RawObject::new(), filter: usable(identity) }
        }
        _ => Verdict { edits: marked(identity, action, value), filter: owned(identity) },
    }
}

/// What a caller who reaches everybody's things makes is theirs, unless they say whose it is.
pub fn given(identity: &str, action: Action, value: &RawObject) -> Verdict {
    let mut edits = RawObject::new();
    if makes(action) {
        let mut metadata = metadata(value).unwrap_or_default();
        metadata.entry(OWNER).or_insert_with(|| identity.into());
        edits.insert("metadata".into(), raw(&metadata));
    }
    Verdict { edits, filter: MetadataFilter::default() }
}

/// The label below which a user has their items: a name may have what labels can't.
pub fn label(identity: &str) -> String {
    identity.replace('%', "%25").replace('.', "%2E")
}

/// Whether an identity names one user, so that things may belong to it.
pub fn names_somebody(identity: &str) -> bool {
    !identity.trim().is_empty() && identity != EVERYBODY
}

fn owned(identity: &str) -> MetadataFilter {
    filter(&json!({ OWNER: identity }))
}

/// Assistants are also those of the graphs, and those that somebody made for everybody.
fn usable(identity: &str) -> MetadataFilter {
    filter(&json!({ "$or": [{ OWNER: identity }, { OWNER: EVERYBODY }, { MAKER.0: MAKER.1 }] }))
}

fn filter(written: &Value) -> MetadataFilter {
    let written = written.as_object().cloned().unwrap_or_default();
    MetadataFilter::read(&written).expect("these filters make sense")
}

fn makes(action: Action) -> bool {
    use Action::{AssistantsCreate, CronsCreate, ThreadsCreate, ThreadsCreateRun};
    matches!(action, ThreadsCreate | ThreadsCreateRun | AssistantsCreate | CronsCreate)
}

/// Writes the owner into the metadata of what is made, and of what changes them.
fn marked(identity: &str, action: Action, value: &RawObject) -> RawObject {
    let mut edits = RawObject::new();
    let given = metadata(value);
    if makes(action) || given.is_some() {
        let mut metadata = given.unwrap_or_default();
        // Nobody passes something off as the system's.
        if metadata.get(MAKER.0).is_some_and(|maker| maker == MAKER.1) {
            metadata.shift_remove(MAKER.0);
        }
        metadata.insert(OWNER.into(), identity.into());
        edits.insert("metadata".into(), raw(&metadata));
    }
    edits
}

fn metadata(value: &RawObject) -> Option<Object> {
    serde_json::from_str(value.get("metadata")?.get()).ok()
}

/// Puts a namespace below the caller's label, unless it is there already.
fn below(identity: &str, value: &RawObject) -> RawObject {
    let own = label(identity);
    let given = |json: &RawJson| serde_json::from_str::<Option<Vec<String>>>(json.get()).ok().flatten();
    let mut namespace = value.get("namespace").and_then(given).unwrap_or_default();
    if namespace.first() != Some(&own) {
        namespace.insert(0, own);
    }
    RawObject::from_iter([("namespace".to_owned(), raw(&namespace))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::fields;

    fn object(value: &Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    fn edited(verdict: &Verdict, key: &str) -> Option<Value> {
        verdict.edits.get(key).map(|json| serde_json::from_str(json.get()).unwrap())
    }

    #[test]
    fn what_is_made_or_changed_is_its_makers() {
        for action in [Action::ThreadsCreate, Action::ThreadsCreateRun, Action::CronsCreate, Action::AssistantsUpdate] {
            let asked = json!({ "metadata": { "owner": "bob", "created_by": "system", "a": 1 } });
            let verdict = own("ann", action, &fields(&asked));
            assert_eq!(edited(&verdict, "metadata"), Some(json!({ "a": 1, "owner": "ann" })), "{action:?}");
            assert!(verdict.filter.admits(&object(&json!({ "owner": "ann" }))));
            assert!(!verdict.filter.admits(&object(&json!({ "owner": "bob" }))));
            assert!(!verdict.filter.admits(&Object::new()));
        }
        let copied = own("ann", Action::ThreadsCreate, &RawObject::new());
        assert_eq!(edited(&copied, "metadata"), Some(json!({ "owner": "ann" })));
        let untouched = own("ann", Action::ThreadsUpdate, &fields(&json!({ "metadata": null })));
        assert_eq!(edited(&untouched, "metadata"), None);
    }

    #[test]
    fn assistants_may_be_used_that_are_nobody_elses() {
        let read = own("ann", Action::AssistantsSearch, &RawObject::new()).filter;
        let change = own("ann", Action::AssistantsUpdate, &RawObject::new()).filter;
        for (metadata, may_read, may_change) in [
            (json!({ "owner": "ann" }), true, true),
            (json!({ "owner": "*" }), true, false),
            (json!({ "created_by": "system" }), true, false),
            (json!({ "owner": "bob" }), false, false),
            (json!({}), false, false),
        ] {
            let metadata = object(&metadata);
            assert_eq!((read.admits(&metadata), change.admits(&metadata)), (may_read, may_change), "{metadata:?}");
        }
    }

    #[test]
    fn namespaces_are_below_the_callers_label() {
        for (identity, asked, expected) in [
            ("ann", json!(["n"]), json!(["ann", "n"])),
            ("ann", json!(["ann", "n"]), json!(["ann", "n"])),
            ("ann", json!(["*"]), json!(["ann", "*"])),
            ("ann", json!(null), json!(["ann"])),
            ("ann", json!([]), json!(["ann"])),
            ("a.b%@x", json!(["ann"]), json!(["a%2Eb%25@x", "ann"])),
        ] {
            let verdict = own(identity, Action::StoreSearch, &fields(&json!({ "namespace": asked })));
            assert_eq!(edited(&verdict, "namespace"), Some(expected));
        }
    }

    #[test]
    fn what_admins_make_is_theirs_unless_they_say_whose() {
        let made = given("root", Action::AssistantsCreate, &fields(&json!({ "metadata": { "owner": "*" } })));
        assert_eq!(edited(&made, "metadata"), Some(json!({ "owner": "*" })));
        let made = given("root", Action::ThreadsCreate, &RawObject::new());
        assert_eq!(edited(&made, "metadata"), Some(json!({ "owner": "root" })));
        assert!(made.filter.is_empty());
        assert!(given("root", Action::ThreadsUpdate, &fields(&json!({ "metadata": {} }))).edits.is_empty());
    }

    #[test]
    fn everybody_is_nobody() {
        assert!(names_somebody("ann"));
        assert!(!names_somebody("*") && !names_somebody("") && !names_somebody(" "));
    }
}
