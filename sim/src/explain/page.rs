//! The page: everything in one file, which needs no network.

use std::collections::BTreeMap;

use eraft_checker::{Interval, html};
use serde::Serialize;
use serde_json::json;

use super::evidence;
use super::scene::Scene;
use crate::artifact::Artifact;
use crate::{places, words};

const PAGE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/style.css");

/// The script, in the order in which its parts need each other.
const SCRIPT: [&str; 5] = [
    include_str!("assets/data.js"),
    include_str!("assets/filter.js"),
    include_str!("assets/draw.js"),
    include_str!("assets/panel.js"),
    include_str!("assets/main.js"),
];

/// An operation of a client, on the scene's clock.
#[derive(Debug, Serialize)]
struct Asked {
    /// Logical process.
    process: u64,
    /// The key or partition.
    partition: String,
    text: String,
    begin: u64,
    end: Option<u64>,
    place: Option<usize>,
    state: Option<String>,
    role: Option<eraft_checker::Role>,
}

/// The page of `artifact`, whose run left `scene` and `operations`; `file` is how the artifact is called.
pub fn page(artifact: &Artifact, file: &str, scene: &Scene, operations: &[Interval]) -> String {
    let script = html::script(&SCRIPT);
    let violation = artifact.violation.as_ref();
    let oracle = violation.map_or("the run passes", |violation| &violation.oracle);
    let found = violation.map(|violation| (violation, artifact.sim_seconds));
    let (nodes, _) = places::names(&artifact.plan.configuration);
    let data = json!({
        "story": words::of_plan(&artifact.plan, &artifact.hits, found),
        "again": again(artifact, file),
        "evidence": violation.map(|violation| evidence::of(scene, violation)).unwrap_or_default(),
        "operations": asked(scene, operations),
        // Which lanes are nodes, and what a node's number in another's state is called.
        "isNode": scene.lanes.iter().map(|lane| nodes.iter().any(|node| node == lane)).collect::<Vec<_>>(),
        "names": names(&nodes),
        "stateNames": ["term", "vote", "role", "leader", "last index", "last term", "log starts after", "commit", "applying"],
        "roleNames": ["follower", "pre-candidate", "candidate", "leader"],
        "scene": scene,
    });
    html::fill(PAGE, |name| match name {
        "policy" => html::policy(STYLE, &script),
        "oracle" => html::escape(oracle),
        "title" => html::escape(&format!("{}, seed {}", artifact.scenario, artifact.seed)),
        "message" => html::escape(violation.map_or("", |violation| &violation.message)),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        "style" => STYLE.to_owned(),
        "data" => html::json(&json!(html::compressed(&data))),
        "script" => script.clone(),
        other => unreachable!("the page has no part {other}"),
    })
}

/// The nodes' names by their numbers.
fn names(nodes: &[String]) -> BTreeMap<u64, &str> {
    nodes.iter().filter_map(|name| Some((places::node_of(name)?.0, name.as_str()))).collect()
}

/// The commands that show the same again.
fn again(artifact: &Artifact, file: &str) -> Vec<String> {
    let mut commands = vec![format!("cargo sim replay {file}")];
    if artifact.shrunk_from.is_none() {
        let mutant = artifact.mutant.as_ref().map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
        commands.push(format!("cargo sim run {} --seed {}{mutant}", artifact.scenario_file, artifact.seed));
        commands.push(format!("cargo sim shrink {file}"));
    }
    commands
}

/// The history's clock is the world's wall clock: the first request was recorded when the first client asked.
fn asked(scene: &Scene, operations: &[Interval]) -> Vec<Asked> {
    let is_operation = |span: &&super::scene::Span| scene.kinds.word(span.kind) == "operation";
    let first_asked = scene.spans.iter().filter(is_operation).map(|span| span.begin).min();
    let first_recorded = operations.iter().filter_map(|operation| operation.invoked_ns).min();
    let (Some(first_asked), Some(first_recorded)) = (first_asked, first_recorded) else { return Vec::new() };
    let micros = |time_ns: u64| time_ns.saturating_sub(first_recorded) / 1_000 + first_asked;
    operations
        .iter()
        .map(|operation| Asked {
            process: operation.process,
            partition: operation.partition.clone(),
            text: operation.text.clone(),
            begin: operation.invoked_ns.map_or(0, micros),
            end: operation.returned_ns.map(micros),
            place: operation.place,
            state: operation.state.clone(),
            role: operation.role,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_called_by_their_names_and_not_by_their_numbers() {
        let nodes = ["s2", "g101n2"].map(str::to_owned);
        assert_eq!(names(&nodes), [(502, "s2"), (1012, "g101n2")].into());
    }

    #[test]
    fn the_assets_cannot_end_their_elements_or_make_markup_of_data() {
        SCRIPT.iter().chain([&STYLE]).for_each(|asset| assert_eq!(html::danger(asset), None));
    }
}
