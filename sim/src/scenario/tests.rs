use super::*;

fn error(text: &str) -> String {
    Scenario::parse("s.toml", text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_a_scenario_of_defaults() {
    let scenario = Scenario::parse("scenarios/small.toml", "").unwrap();
    assert_eq!((scenario.name.as_str(), scenario.cluster.nodes), ("small", Setting::Fixed(3)));
    assert_eq!(scenario.checks.len(), oracles::of(&Cluster::default()).count() - 1, "all but that of steps");
}

#[test]
fn a_number_may_be_a_range_or_a_list_of_choices() {
    let text = "[cluster]\nnodes = [3, 5]\n[workload]\nskew = { choices = [0, 0.9, 2] }\nclients = 0x10\n";
    let scenario = Scenario::parse("s.toml", text).unwrap();
    assert_eq!(scenario.cluster.nodes, Setting::Range(3, 5));
    assert_eq!(scenario.workload.skew, Setting::Choices(vec![0.0, 0.9, 2.0]));
    assert_eq!(scenario.workload.clients, Setting::Fixed(16));
}

#[test]
fn a_scenario_with_steps_heals_everything_and_is_judged_by_them() {
    let text = "steps = [{ do = \"repeat\", times = 2, steps = [{ do = \"put\", key = \"k\", value = \"v\" }] }]\n\
                [workload]\nclients = 0\n";
    let scenario = Scenario::parse("s.toml", text).unwrap();
    assert_eq!((scenario.heal, scenario.checks.len()), (Heal::All, oracles::of(&Cluster::default()).count()));
    let plan = crate::schedule::Plan::new(&scenario, 1);
    assert_eq!(plan.must_judge(), ["kv.linearizable", "sim.script"]);
    let json = serde_json::to_string(&plan).unwrap();
    assert!(serde_json::from_str::<crate::schedule::Plan>(&json).unwrap() == plan, "another plan came back");
    assert!(
        json.contains(r#"{"do":"repeat","times":2,"steps":[{"do":"put","client":"client","key":"k""#),
        "{json}"
    );
}

#[test]
fn controllers_and_groups_have_nodes_with_names_and_oracles_of_their_own() {
    let text = "steps = [{ do = \"operate\", commands = \"join g100; move 3 g100\" }, { do = \"crash\", nodes = \"s2\" }]\n\
                [cluster]\nctrlers = 3\n[[faults]]\nat_ms = 1\naction = \"node.kill\"\ntarget = \"leader of ctrlers\"\n";
    let scenario = Scenario::parse("s.toml", text).unwrap();
    assert_eq!(scenario.workload.clients, Setting::Fixed(0));
    assert!(scenario.checks.iter().any(|id| id == "ctrler.minimal"));
    assert!(!scenario.checks.iter().any(|id| id == "kv.linearizable"));
    let plan = crate::schedule::Plan::new(&scenario, 1);
    let json = serde_json::to_string(&plan).unwrap();
    assert!(serde_json::from_str::<crate::schedule::Plan>(&json).unwrap() == plan, "another plan came back");
    assert!(json.contains(r#""target":"leader of ctrlers""#), "{json}");
    assert!(json.contains(r#"[["join g100","move 3 g100"]]"#), "{json}");
    assert!(!Scenario::parse("s.toml", "").unwrap().checks.iter().any(|id| id.starts_with("ctrler.")));
    for (text, expected) in [
        ("[cluster]\ngroups = 2\n", "groups that serve shards need `ctrlers`"),
        ("[cluster]\nctrlers = [0, 3]\n", "the range starts at 0"),
        ("[cluster]\nctrlers = 3\n[workload]\nclients = 1\n", "controllers keep no keys"),
        ("[operators]\noperators = 1\n", "there are no controllers"),
        ("steps = [{ do = \"history\" }]\n", "`history` needs controllers"),
        ("steps = [{ do = \"crash\", nodes = \"s1\" }]\n", "there is no s1 in a cluster of 3 nodes"),
        (
            "steps = [{ do = \"operate\", commands = \"jion g100\" }]\n[cluster]\nctrlers = 3\n",
            "`jion g100` is no command",
        ),
        (
            "[cluster]\nctrlers = 3\n[[faults]]\nat_ms = 1\naction = \"node.kill\"\ntarget = \"leader of g100\"\n",
            "there is no g100 in a cluster of 3 controllers",
        ),
    ] {
        let found = error(text);
        assert!(found.contains(expected), "{found}");
    }
}

/// Every way to be wrong, with what is said about it.
#[test]
fn errors_name_file_line_column_and_key_and_what_would_be_right() {
    let fault = |lines: &str| format!("[[faults]]\n{lines}");
    for (text, expected) in [
        (
            "[cluster]\n\nreplcas = 3\nnodes = 3\n".to_owned(),
            "s.toml:3:1: cluster.replcas: unknown key `replcas`; known here: nodes, ctrlers, groups, joined, shards, election_timeout_ms, heartbeat_ms, \
             peer_silence_ms, log_bytes_max, snapshot_chunk_bytes, append_entries_max, \
             append_bytes_max, appends_in_flight_max, uncommitted_bytes_max, apply_flush_ms, \
             apply_overlay_bytes_max, sessions_max",
        ),
        (
            "[cluster]\nnods = 3\n".to_owned(),
            "s.toml:2:1: cluster.nods: unknown key `nods`, did you mean `nodes`?",
        ),
        ("[clustre]\n".to_owned(), "s.toml:1:2: clustre: unknown key `clustre`, did you mean `cluster`?"),
        (
            "[cluster]\nnodes = \"three\"\n".to_owned(),
            "s.toml:2:9: cluster.nodes: expected a whole number, a range [low, high] or { choices = [..] }, found the \
             text \"three\"",
        ),
        ("[cluster]\nnodes = 0\n".to_owned(), "s.toml:2:9: cluster.nodes: 0 is not within 1 to 9"),
        ("[cluster]\nnodes = [3, 50]\n".to_owned(), "s.toml:2:13: cluster.nodes: 50 is not within 1 to 9"),
        (
            "[cluster]\nnodes = -3\n".to_owned(),
            "s.toml:2:9: cluster.nodes: expected a whole number, a range [low, high] or { choices = [..] }, found the \
             number -3",
        ),
        (
            "[cluster]\nnodes = [5, 3]\n".to_owned(),
            "s.toml:2:9: cluster.nodes: the range starts at 5 and ends below, at 3",
        ),
        (
            "[cluster]\nnodes = [1, 2, 3]\n".to_owned(),
            "s.toml:2:9: cluster.nodes: a range has two numbers, [low, high], not 3; several alternatives are { choices \
             = [..] }",
        ),
        (
            "[cluster]\nnodes = { choice = [3] }\n".to_owned(),
            "s.toml:2:11: cluster.nodes.choice: unknown key `choice`, did you mean `choices`?",
        ),
        (
            "[cluster]\nnodes = { choices = [] }\n".to_owned(),
            "s.toml:2:21: cluster.nodes.choices: expected a list of at least one a whole number",
        ),
        (
            "[cluster]\nelection_timeout_ms = [60, 200]\nheartbeat_ms = 50\n".to_owned(),
            "s.toml:3:16: cluster.heartbeat_ms: 50 ms is more than half of the shortest election_timeout_ms (60 ms): \
             followers would call elections under a healthy leader",
        ),
        (
            "[workload]\nget = 0\nput = 0\nappend = 0\ndelete = 0\ncas = 0\n".to_owned(),
            "s.toml:2:7: workload.get: the weights of get, put, append, delete and cas may all be 0: one must not be",
        ),
        (
            "steps = [{ do = \"one_leadr\" }]\n".to_owned(),
            "s.toml:1:17: steps[0].do: unknown value `one_leadr`, did you mean `one_leader`?",
        ),
        (
            "steps = [\n    { do = \"mark\" },\n    { do = \"wait\", ms = 5, on = 3 },\n]\n".to_owned(),
            "s.toml:3:33: steps[1].on: says nothing about `wait`; it has: ms",
        ),
        (
            "steps = [{ do = \"repeat\", times = 2, steps = [{ do = \"wait\" }] }]\n".to_owned(),
            "s.toml:1:47: steps[0].steps[0].ms: missing: `ms` has no default here",
        ),
        (
            "steps = [{ do = \"one_leader\", as = \"first\" }, { do = \"cut\", nodes = \"frist+1\" }]\n"
                .to_owned(),
            "s.toml:1:69: steps[1].nodes: no earlier step names a node `frist`, did you mean `first`?",
        ),
        (
            "steps = [{ do = \"cut\", nodes = [\"n1\", \"n4\"] }]\n".to_owned(),
            "s.toml:1:32: steps[0].nodes: there is no n4 in a cluster of 3 nodes",
        ),
        (
            "steps = [{ do = \"agree\", on = 4 }]\n".to_owned(),
            "s.toml:1:31: steps[0].on: 4 is not within 1 to 3",
        ),
        (
            "steps = [{ do = \"wait\", ms = [1, 2] }]\n".to_owned(),
            "s.toml:1:30: steps[0].ms: expected one whole number: a step draws nothing",
        ),
        (
            "steps = [{ do = \"mark\" }]\n[cluster]\nnodes = [3, 5]\n".to_owned(),
            "s.toml:3:9: cluster.nodes: a scenario with steps has a fixed number of nodes",
        ),
        (
            "[workload]\nclients = 3\nown_keys = 2\nkeys = 5\n".to_owned(),
            "s.toml:3:12: workload.own_keys: 3 clients with 2 keys each need more than 5 keys",
        ),
        (
            "[phases]\nheal = \"none\"\n".to_owned(),
            "s.toml:2:8: phases.heal: unknown value `none`; known: majority, all",
        ),
        (
            "[checks]\noracles = [\"kv.linearisable\"]\n".to_owned(),
            "s.toml:2:11: checks.oracles: unknown oracle `kv.linearisable`, did you mean `kv.linearizable`?",
        ),
        ("cluster = 3\n".to_owned(), "s.toml:1:11: cluster: expected a table, found the number 3"),
        ("[cluster\nnodes = 3\n".to_owned(), "s.toml:1:9: not TOML: unclosed table, expected `]`"),
        ("[cluster]\nnodes = 3\nnodes = 4\n".to_owned(), "s.toml:3:1: not TOML: duplicate key"),
        (fault("at_ms = 5\n"), "s.toml:1:1: faults[0].action: missing: which fault is it?"),
        (
            fault("at_ms = 5\naction = \"net.partion\"\n"),
            "s.toml:3:10: faults[0].action: unknown value `net.partion`, did you mean `net.partition`?",
        ),
        (
            fault("action = \"node.kill\"\ntarget = \"leader\"\n"),
            "s.toml:1:1: faults[0].at_ms: missing: when does it happen? (or `after`: after what?)",
        ),
        (
            fault("at_ms = 5\naction = \"node.kill\"\n"),
            "s.toml:1:1: faults[0].target: missing: whom does node.kill hit?",
        ),
        (
            fault("at_ms = 5\naction = \"node.kill\"\ntarget = \"leadr\"\n"),
            "s.toml:4:10: faults[0].target: `leadr` is no target, did you mean `leader`?; known: leader, follower, random, \
             minority, majority, all, group, client, there, n1.., c1.., leader of g100..",
        ),
        (
            fault("at_ms = 5\naction = \"node.kill\"\ntarget = \"n4\"\n"),
            "s.toml:4:10: faults[0].target: there is no n4 in a cluster of 3 nodes",
        ),
        (
            fault("at_ms = 5\naction = \"node.kill\"\ntarget = \"c1\"\n"),
            "s.toml:4:10: faults[0].target: node.kill hits nodes, not clients",
        ),
        (
            fault("at_ms = 5\naction = \"node.kill\"\ntarget = \"there\"\n"),
            "s.toml:4:10: faults[0].target: `there` means where the trigger happened: `after` is missing",
        ),
        (
            fault("at_ms = 5\naction = \"node.kill\"\ntarget = [\"n1\", \"leader\"]\n"),
            "s.toml:4:10: faults[0].target: `n1+leader` mixes roles, nodes or clients",
        ),
        (
            fault("at_ms = 5\naction = \"node.kill\"\ntarget = \"n1\"\nrate = 0.5\n"),
            "s.toml:5:8: faults[0].rate: says nothing about node.kill; it has: target, duration_ms",
        ),
        (
            fault("at_ms = 5\naction = \"node.pause\"\ntarget = \"n1\"\n"),
            "s.toml:1:1: faults[0].duration_ms: missing: how long does node.pause last?",
        ),
        (
            fault("at_ms = 10000\naction = \"node.kill\"\ntarget = \"n1\"\n"),
            "s.toml:2:9: faults[0].at_ms: not before the end of the safety phase (10000 ms)",
        ),
        (
            "[random_faults]\nkinds = [\"net.lost\"]\n".to_owned(),
            "s.toml:2:9: random_faults.kinds: unknown fault `net.lost`, did you mean `net.loss`?",
        ),
        (
            "[buggify]\npoints = [\"driver.short_batches\"]\n".to_owned(),
            "s.toml:2:10: buggify.points: unknown point `driver.short_batches`, did you mean `driver.short_batch`?",
        ),
        (
            fault("at_ms = 5\naction = \"client.crash\"\ntarget = \"n1\"\nduration_ms = 5\n"),
            "s.toml:4:10: faults[0].target: client.crash hits clients, not nodes",
        ),
        (
            "[random_faults]\nkinds = [\"net.*\"]\n[random_faults.\"node.kill\"]\n".to_owned(),
            "s.toml:3:1: random_faults.node.kill: is not among `kinds`",
        ),
        (
            "[random_faults.\"net.partition\"]\nshape = [\"rings\"]\n".to_owned(),
            "s.toml:2:9: random_faults.net.partition.shape: unknown value `rings`, did you mean `ring`?; known: symmetric, \
             inbound, outbound, bridge, ring",
        ),
        (
            "[random_faults.\"node.crash\"]\nafter = [\"time\", \"vot\"]\n".to_owned(),
            "s.toml:2:9: random_faults.node.crash.after: unknown value `vot`, did you mean `vote`?; known: time, vote, \
             election, sync, snapshot, flush, config, arrival, release, deletion",
        ),
    ] {
        assert_eq!(error(&text), expected, "{text}");
    }
}

#[test]
fn kinds_may_be_named_by_group_and_tuned_one_by_one() {
    let text = "[random_faults]\nkinds = [\"net.*\", \"node.crash\"]\nmean_interval_ms = 5\n\
                [random_faults.\"net.loss\"]\nrate = [0.5, 0.6]\nmean_interval_ms = 9\n";
    let random = Scenario::parse("s.toml", text).unwrap().random_faults.unwrap();
    assert_eq!(random.kinds.len(), 8);
    assert_eq!(random.kinds[0].profile.rate, Setting::Range(0.5, 0.6));
    assert_eq!(random.kinds[0].mean_interval_ms, Setting::Fixed(9));
    assert_eq!(random.kinds[1].mean_interval_ms, Setting::Fixed(5));
}

#[test]
fn arbitrary_bytes_are_refused_or_read_but_never_panic() {
    let text = include_str!("../../../scenarios/swarm/kv.toml");
    for cut in (0..text.len()).step_by(13).filter(|cut| text.is_char_boundary(*cut)) {
        let _ = Scenario::parse("cut.toml", &text[..cut]);
        let _ = Scenario::parse("hole.toml", &text[cut..]);
    }
}
