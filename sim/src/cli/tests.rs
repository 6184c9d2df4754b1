//! Commands that are written down for other tools are commands that there are: those of `deploy/fuzz/`, the Makefile and
//! the documentation are read by the same definitions as the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{CommandFactory, Parser as _};

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The blocks of shell after `key: |` or `- |` in a YAML file, and the one-line values of `key`.
fn scripts(text: &str, key: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start().trim_start_matches("- ");
        let of_key = trimmed.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')).map(str::trim);
        if of_key == Some("|") || line.trim() == "- |" {
            let inside = |next: &&&str| next.trim().is_empty() || indent(next) > indent(line);
            let block: Vec<&str> = lines[place + 1..].iter().take_while(inside).copied().collect();
            found.push(block.join("\n"));
        } else if let Some(value) = of_key.filter(|value| !value.is_empty()) {
            found.push(value.to_owned());
        }
    }
    found
}

/// What a script calls `eraft-sim` or `cargo` with, as the shell has it: both are replaced by an echo.
fn called(script: &str, variables: &[(&str, &str)]) -> Vec<Vec<String>> {
    use std::os::unix::fs::PermissionsExt as _;
    let tools = tempfile::tempdir().unwrap();
    let said = tools.path().join("said");
    for tool in ["eraft-sim", "cargo"] {
        let path = tools.path().join(tool);
        let text = format!("#!/bin/sh\nprintf '%s\\n' {tool} \"$@\" '' >> '{}'\n", said.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Process::new("/bin/sh");
    shell.args(["-eu", "-c", script]).current_dir(root()).env("PATH", path);
    let output = shell.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    let said = std::fs::read_to_string(said).unwrap_or_default();
    let calls = said.split("\n\n").filter(|call| !call.is_empty());
    calls.map(|call| call.lines().map(str::to_owned).collect()).collect()
}

/// `eraft-sim …` or `cargo sim …` as our definitions read it.
fn parse(words: &[String]) -> Cli {
    let rest = match words {
        [tool, rest @ ..] if tool == "eraft-sim" => rest,
        [tool, sim, rest @ ..] if tool == "cargo" && sim == "sim" => rest,
        other => panic!("{other:?} is no command of ours"),
    };
    let all = std::iter::once("eraft-sim".to_owned()).chain(rest.iter().cloned());
    Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The campaign that `words` begin.
fn campaign(words: &[String]) -> fuzz::Arguments {
    match parse(words).command {
        Command::Fuzz(arguments) => arguments,
        other => panic!("{other:?} is no campaign"),
    }
}

#[test]
fn definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_pods_of_a_night_share_its_seeds_and_no_two_nights_share_any() {
    let text = read("deploy/fuzz/kubernetes-job.yaml");
    let found = scripts(&text, "args");
    assert_eq!(found.len(), 2, "one campaign and one merge");
    let mut parts = BTreeSet::new();
    let mut nights = Vec::new();
    // The second name is of the next night, the third of the same night as the second, but later.
    for (job, index) in [("fuzz-29401517", "0"), ("fuzz-29402957", "0"), ("fuzz-29402990", "15")] {
        let calls =
            called(&found[0], &[("JOB_NAME", job), ("JOB_COMPLETION_INDEX", index), ("SEEDS", "20000")]);
        let (seeds, part, scenarios) = campaign(&calls[0]).range();
        assert!(
            ["kv", "raft", "disk", "ctrler", "shardkv"]
                .iter()
                .all(|name| { scenarios.contains(&PathBuf::from(format!("scenarios/swarm/{name}.toml"))) })
        );
        nights.push(seeds);
        parts.insert(part);
    }
    assert_eq!(nights[0].1 - nights[0].0, 20_000);
    assert!(nights[0].1 <= nights[1].0 && nights[1] == nights[2], "{nights:?}");
    assert_eq!(parts, [(1, 16), (16, 16)].into());
    let out = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(out.path().join("fuzz-29401517/0")).unwrap();
    let merge = found[1].replace("/out", &out.path().display().to_string());
    assert!(matches!(parse(&called(&merge, &[])[0]).command, Command::Merge(_)));
}

#[test]
fn the_workflow_of_github_calls_what_there_is() {
    let text = read("deploy/fuzz/github-actions.yml").replace("${{ matrix.part }}", "3");
    let found = scripts(&text, "run");
    let calls: Vec<Vec<String>> =
        found.iter().flat_map(|script| called(script, &[("SEEDS", "20000")])).collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    let (seeds, part, scenarios) = campaign(&calls[0]).range();
    assert_eq!((seeds.1 - seeds.0, part, scenarios.len() >= 5), (20_000, (3, 8), true));
    assert!(matches!(parse(&calls[1]).command, Command::Merge(_)));
}

#[test]
fn the_image_lists_what_there_is_and_the_makefile_and_the_documentation_name_commands_that_exist() {
    let mut count = 0;
    let mut lines: Vec<String> = Vec::new();
    for file in [
        "Makefile",
        "deploy/fuzz/Dockerfile",
        "docs/TESTING.md",
        "docs/FAILING_SEED.md",
        "docs/RED_CI.md",
        "README.md",
    ] {
        let text = read(file);
        let mut is_fenced = false;
        for line in text.lines() {
            is_fenced ^= line.starts_with("```");
            let is_document = file.ends_with(".md");
            if !is_document || is_fenced {
                let command = line.trim_start_matches(['\t', ' ', '@', '$']);
                lines.extend(command.find("cargo sim ").map(|at| command[at..].to_owned()));
            } else {
                // Between back quotes.
                let quoted = line.split('`').skip(1).step_by(2);
                let has_arguments = |code: &&str| code.split_whitespace().count() > 3;
                let commands = quoted.filter(|code| code.starts_with("cargo sim ")).filter(has_arguments);
                lines.extend(commands.map(str::to_owned));
            }
        }
    }
    for line in lines.iter().filter(|line| !line.contains('…')) {
        let command = line.split(['#', '|', '>']).next().unwrap_or_default().replace("$(FUZZ_SEEDS)", "0..9");
        for command in command.split("&&").filter(|command| command.contains("cargo sim ")) {
            let words: Vec<String> =
                command.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect();
            parse(&words);
            count += 1;
        }
    }
    assert!(count > 15, "{count} commands were found");
}
