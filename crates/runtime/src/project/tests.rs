//! What of a configuration is taken, and what is refused, with its place.

use super::*;

fn read_with(text: &str, variable: &str, said: &str) -> Result<Project, String> {
    let read = Sections::of_file(Path::new("/p/langgraph.json"), text.into()).and_then(|mut sections| {
        sections.add_variables(|name| (name == variable).then(|| said.to_owned()))?;
        Project::read(sections, "/p/langgraph.json".into(), "/p".into())
    });
    read.map_err(|error| error.to_string())
}

fn read(text: &str) -> Result<Project, String> {
    read_with(text, "", "")
}

#[test]
fn both_forms_of_a_graph_are_read_in_order() {
    let project =
        read(r#"{"graphs": {"b": "./b.py:g", "a": {"path": "m:g", "description": "d"}}, "env": {"X": 1}}"#).unwrap();
    let shown: Vec<_> =
        project.graphs.iter().map(|it| (it.id.as_str(), it.path.as_str(), it.description.as_deref())).collect();
    assert_eq!(shown, [("b", "./b.py:g", None), ("a", "m:g", Some("d"))]);
    assert_eq!(project.env, Env::Map([("X".to_owned(), "1".to_owned())].into()));
    assert!(!project.http.disabled.webhooks);
}

#[test]
fn a_project_has_the_languages_of_its_code() {
    let languages = |text: &str| read(text).unwrap().languages().into_iter().collect::<Vec<_>>();
    assert_eq!(languages(r#"{"graphs": {"a": "./a.ts:g", "b": "./b.mjs"}}"#), [Language::Node]);
    assert_eq!(languages(r#"{"graphs": {"a": "./a.py:g", "b": "./b.mjs:g"}}"#), [Language::Python, Language::Node]);
    let auth = r#"{"graphs": {"a": "./a.ts:g"}, "auth": {"path": "./auth.py:auth"}, "node_version": "22"}"#;
    assert_eq!(languages(auth), [Language::Python, Language::Node]);
    assert_eq!(read(auth).unwrap().node_version, Some(22));
}

#[test]
fn variables_stand_for_sections_that_the_file_does_not_have() {
    let file = r#"{"graphs": {"a": "./a.py:g"}, "http": {"mount_prefix": "/file"}}"#;
    let prefix = |file, variable, said| read_with(file, variable, said).map(|it| it.http.mount_prefix);
    let said = r#"{"mount_prefix": "/variable"}"#;
    assert_eq!(prefix(file, "LANGGRAPH_HTTP", said), Ok("/file".into()));
    assert_eq!(prefix(r#"{"graphs": {"a": "./a.py:g"}}"#, "LANGGRAPH_HTTP", said), Ok("/variable".into()));
    let graphs = read_with("{}", "LANGSERVE_GRAPHS", r#"{"b": "./b.py:g"}"#).unwrap().graphs;
    assert_eq!(graphs[0].id, "b");
    let wrong = prefix(r#"{"graphs": {"a": "./a.py:g"}}"#, "LANGGRAPH_HTTP", "{\n \"disable_runs\": 1}");
    assert!(wrong.unwrap_err().starts_with("the variable LANGGRAPH_HTTP:2:2: `http.disable_runs`: "));
    let wrong = prefix(r#"{"graphs": {"a": "./a.py:g"}}"#, "LANGGRAPH_HTTP", "{");
    assert!(wrong.unwrap_err().starts_with("the variable LANGGRAPH_HTTP:1:1: EOF"));
}

#[test]
fn keys_without_effect_are_told_with_their_place() {
    let text = "{\"graphs\": {\"a\": \"./a.py:g\"},\n\"python_version\": \"3.12\",\n\"htpp\": {},\n\"store\": {\"ttl\": {\"x\": 1}}}";
    let told = read(text).unwrap().without_effect;
    let told: Vec<_> = told.iter().map(|it| (it.key.as_str(), it.place.as_str(), it.is_known)).collect();
    let expected = [
        ("python_version", "/p/langgraph.json:2:1", true),
        ("htpp", "/p/langgraph.json:3:1", false),
        ("store.ttl.x", "/p/langgraph.json:4:19", false),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_can_t_be_served_is_refused_by_name_and_place() {
    for (more, place, named) in [
        (r#""auth": {"path": "./auth.py"}"#, "2:10", "`auth.path`"),
        (r#""encryption": {}"#, "2:1", "`encryption`"),
        (r#""encryption": {"path": "./e.py"}"#, "2:16", "`encryption.path`"),
        (r#""encryption": {"path": "./e.ts:e"}"#, "2:16", "`encryption.path`"),
        (r#""encryption": {"path": "./e.py:e", "keys": 1}"#, "2:36", "`encryption.keys`"),
        (r#""priority": {"path": "./p.py:p"}"#, "2:1", "`priority`"),
        (r#""store": {"path": "x"}"#, "2:11", "`store.path`: is not supported"),
        (r#""store": {"indez": {}}"#, "2:11", "`store.indez`: is not a key"),
        (r#""encryption": {"patz": "./e.py:e"}"#, "2:16", "`encryption.patz`: is not a key"),
        (r#""store": []"#, "2:1", "`store`"),
        (r#""checkpointer": {"serde": []}"#, "2:18", "`checkpointer.serde`"),
        (r#""checkpointer": {"backend": "mongo"}"#, "2:18", "`checkpointer.backend`"),
        (r#""ui": {"a/b": "./ui.tsx"}"#, "2:8", "`ui.a/b`"),
        (r#""ui_config": {"shared": 1}"#, "2:15", "`ui_config.shared`"),
        (r#""dependencies": ["/", "./gone"]"#, "2:23", "`./gone`"),
        (r#""node_version": 20"#, "2:1", "`node_version`"),
        (r#""env": "gone.env""#, "2:1", "`gone.env`"),
        (r#""env": {"A": "a", "B": []}"#, "2:19", "`env.B`"),
        (r#""store": {"index": {"embed": "a:b", "dims": 0}}"#, "2:37", "`store.index.dims`"),
        (r#""store": {"index": {"embed": "a:b", "dims": "x"}}"#, "2:37", "`store.index.dims`"),
        (r#""checkpointer": {"ttl": {"default_ttl": -1}}"#, "2:26", "`checkpointer.ttl.default_ttl`"),
        (r#""http": {"enable_custom_route_auth": true}"#, "2:10", "`http.enable_custom_route_auth`"),
        (r#""http": {"cors": {"max_age": "x"}}"#, "2:19", "`http.cors.max_age`"),
        (r#""webhooks": {"retry": {"statuses": [1]}}"#, "2:24", "`webhooks.retry.statuses`"),
        (r#""webhooks": {"retry": {"schedule": ["1s", "x"]}}"#, "2:43", "`webhooks.retry.schedule[1]`"),
    ] {
        let why = read(&format!("{{\"graphs\": {{\"a\": \"./a.py:g\"}},\n{more}}}")).unwrap_err();
        assert!(why.starts_with(&format!("/p/langgraph.json:{place}: ")) && why.contains(named), "{more}: {why}");
    }
    for (text, place, named) in [
        (r#"{"graphs": {"a": "./a.py"}}"#, "1:13", "`graphs.a`"),
        (r#"{"graphs": {"a": {}}}"#, "1:13", "`graphs.a`"),
        (r#"{"graphs": {"a.b": {"path": "./a.py:g", "description": 1}}}"#, "1:41", "`graphs.a.b.description`"),
        (r#"{"graphs": {}}"#, "1:2", "`graphs`: is empty"),
        (r#"{"graphs": {"": "./a.py:g"}}"#, "1:2", "without a name"),
        ("", "1:1", "is empty"),
        (" \n", "1:1", "is empty"),
        ("\u{feff}{\"graphs\": []}", "1:2", "must be an object"),
        (r#"{"graphs": "#, "1:11", "EOF"),
        ("{}", "1:1", "`graphs`: is missing"),
        ("[]", "1:1", "must be an object"),
    ] {
        let why = read(text).unwrap_err();
        assert!(why.starts_with(&format!("/p/langgraph.json:{place}: ")) && why.contains(named), "{text}: {why}");
    }
}
