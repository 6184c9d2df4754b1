use super::*;
use crate::outcome::Hit;
use std::sync::atomic::AtomicU64;

const TEXT: &str =
    "[workload]\nclients = 0\n[random_faults]\nkinds = [\"net.loss\"]\n[checks]\noracles = [\"sim.panic\"]\n";

/// Seeds of which 13 is special divide the runs into good and bad ones; everything else is a function of the seed.
fn fake(request: &RunRequest, _: &RunOptions) -> Result<Outcome, Internal> {
    let is_bad = request.seed % 20 == 13 && request.mutant.is_none();
    let delivers = request.mutant.as_deref() != Some("delivers nothing");
    // Later seeds end sooner: the order of completion is not that of the seeds.
    std::thread::sleep(Duration::from_micros(900u64.saturating_sub(request.seed * 50)));
    Ok(Outcome {
        migrations: 0,
        verdict: if is_bad { Verdict::Fail } else { Verdict::Pass },
        violation: is_bad.then(|| Violation::new("sim.panic", "it panicked")),
        digest: request.seed * 3,
        records: 1,
        checkpoints: Vec::new(),
        trace_tail: Vec::new(),
        history: b"{}\n{}\n".to_vec(),
        sim_seconds: 2.0,
        wall_seconds: 0.1,
        core_seconds: 0.1,
        operations: 10,
        faults: [("net.loss".to_owned(), u64::from(delivers))].into(),
        buggify: Default::default(),
        judged: [("sim.panic".to_owned(), 1)].into(),
        leader_after_ms: Some(request.seed),
        coverage: crate::coverage::Coverage::default(),
        is_complete: true,
        hits: Vec::new(),
    })
}

fn campaign(end: u64, jobs: usize, out: &std::path::Path) -> Campaign {
    let scenario = Scenario::parse("fake.toml", TEXT).unwrap();
    Campaign {
        sources: vec![Source { file: "fake.toml".to_owned(), text: TEXT.to_owned(), scenario }],
        first_seed: 0,
        end_seed: Some(end),
        time: None,
        jobs,
        shard: (0, 1),
        mutant: None,
        check_determinism_percent: 0,
        keep_going: false,
        out: out.to_owned(),
        done: Vec::new(),
        stop: Arc::default(),
    }
}

fn seeds_of(campaign: &Campaign) -> (Vec<u64>, Summary) {
    let mut seeds = Vec::new();
    let summary = fuzz(fake, campaign, |run| seeds.push(run.line.seed)).unwrap();
    (seeds, summary)
}

#[test]
fn results_come_in_the_order_of_seeds_and_end_at_the_first_failure_whatever_the_jobs() {
    let out = tempfile::tempdir().unwrap();
    for jobs in [1, 2, 7] {
        let (seeds, summary) = seeds_of(&campaign(50, jobs, out.path()));
        assert_eq!(seeds, (0..=13).collect::<Vec<_>>());
        assert_eq!((summary.runs, summary.verdicts["fail"]), (14, 1));
    }
    let artifact = Artifact::read(&out.path().join("fake-13-sim-panic.json")).unwrap();
    assert_eq!((artifact.seed, artifact.digest, artifact.history_tail.len()), (13, 39, 2));
}

#[test]
fn keep_going_sees_every_failure() {
    let out = tempfile::tempdir().unwrap();
    let (seeds, summary) = seeds_of(&Campaign { keep_going: true, ..campaign(50, 3, out.path()) });
    assert_eq!((seeds.len(), summary.verdicts["fail"]), (50, 2));
}

#[test]
fn shards_are_disjoint_and_together_everything() {
    let out = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for part in 0..3 {
        let campaign = Campaign { shard: (part, 3), keep_going: true, ..campaign(20, 2, out.path()) };
        all.extend(seeds_of(&campaign).0);
    }
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_seed_with_two_digests_is_a_failure() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    fn unstable(request: &RunRequest, options: &RunOptions) -> Result<Outcome, Internal> {
        let digest = CALLS.fetch_add(1, Ordering::SeqCst);
        Ok(Outcome { digest, ..fake(request, options)? })
    }
    let out = tempfile::tempdir().unwrap();
    let campaign = Campaign { check_determinism_percent: 100, ..campaign(1, 1, out.path()) };
    let summary = fuzz(unstable, &campaign, |_| ()).unwrap();
    assert_eq!(
        (summary.determinism_checked, summary.nondeterministic, summary.verdicts["fail"]),
        (1, vec![0], 1)
    );
    let stable = fuzz(fake, &campaign, |_| ()).unwrap();
    assert_eq!((stable.determinism_checked, stable.nondeterministic.len()), (1, 0));
}

#[test]
fn a_long_campaign_that_never_delivers_a_fault_is_vacuous() {
    fn toothless(request: &RunRequest, options: &RunOptions) -> Result<Outcome, Internal> {
        let mut outcome = fake(request, options)?;
        outcome.verdict = Verdict::Pass;
        outcome.faults.clear();
        outcome.judged.clear();
        Ok(outcome)
    }
    let out = tempfile::tempdir().unwrap();
    let short = fuzz(toothless, &campaign(99, 2, out.path()), |_| ()).unwrap();
    assert_eq!(short.vacuous, Vec::<String>::new());
    let long = fuzz(toothless, &campaign(100, 2, out.path()), |_| ()).unwrap();
    assert_eq!(long.vacuous, ["fake: net.loss", "fake: sim.panic"]);
    let (_, sound) = seeds_of(&Campaign { keep_going: true, ..campaign(100, 2, out.path()) });
    assert_eq!(sound.vacuous, Vec::<String>::new());
    assert_eq!(sound.leader_after_ms, Some((49, 98, 99)));
}

#[test]
fn an_internal_error_ends_a_campaign_and_is_no_finding() {
    fn broken(request: &RunRequest, options: &RunOptions) -> Result<Outcome, Internal> {
        if request.seed == 5 { panic!("the simulator itself is wrong") } else { fake(request, options) }
    }
    let out = tempfile::tempdir().unwrap();
    let error = fuzz(broken, &campaign(10, 2, out.path()), |_| ()).unwrap_err();
    assert!(error.to_string().contains("the simulator itself is wrong at sim/src/fuzz/tests.rs"), "{error}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_campaign_goes_on_where_it_was_ended_and_its_shards_make_a_whole() {
    let out = tempfile::tempdir().unwrap();
    let whole = Campaign { keep_going: true, check_determinism_percent: 30, ..campaign(60, 2, out.path()) };
    let mut runs = Vec::new();
    let at_once = fuzz(fake, &whole, |run| runs.push(run.clone())).unwrap();

    // Ended from outside in the middle, written down, read and gone on with.
    let first = Campaign { stop: Arc::default(), ..whole.clone() };
    let head = Head::of(&first);
    let mut writer = Writer::create(out.path(), &head, &[]).unwrap();
    let mut count = 0;
    let ended = fuzz(fake, &first, |run| {
        count += 1;
        if count <= 25 {
            writer.line(run).unwrap();
        }
        if count == 25 {
            first.stop.store(true, Ordering::SeqCst);
        }
    });
    assert!(ended.unwrap().is_interrupted);
    let (read_head, done) = results::read(&out.path().join("results.jsonl")).unwrap();
    assert_eq!((read_head, done.len()), (head, 25));
    let mut all = done.clone();
    let second = fuzz(fake, &Campaign { done, ..whole.clone() }, |run| all.push(run.clone())).unwrap();
    let strip = |summary: &Summary| Summary { wall_seconds: 0.0, ..summary.clone() };
    assert_eq!(strip(&second), strip(&at_once));
    assert_eq!(all, runs);

    let shards = tempfile::tempdir().unwrap();
    for part in [0, 2] {
        let shard = Campaign { shard: (part, 3), ..whole.clone() };
        let mut writer = Writer::create(shards.path(), &Head::of(&shard), &[]).unwrap();
        fuzz(fake, &shard, |run| writer.line(run).unwrap()).unwrap();
    }
    let (_, _, missing) = merge(&[shards.path().to_owned()]).unwrap();
    assert_eq!(missing, [2]);
    let shard = Campaign { shard: (1, 3), ..whole.clone() };
    let mut writer = Writer::create(shards.path(), &Head::of(&shard), &[]).unwrap();
    fuzz(fake, &shard, |run| writer.line(run).unwrap()).unwrap();
    let (head, merged, missing) = merge(&[shards.path().to_owned()]).unwrap();
    assert_eq!((missing, merged.len()), (Vec::new(), 60));
    assert_eq!(strip(&summarise(&merged, head.mutant.as_deref())), strip(&at_once));

    let other = Campaign { mutant: Some("kv.no_dedup".to_owned()), ..campaign(5, 1, shards.path()) };
    Writer::create(shards.path(), &Head::of(&other), &[]).unwrap();
    assert!(merge(&[shards.path().to_owned()]).unwrap_err().0.contains("another campaign"));
}

#[test]
fn an_artifact_says_what_of_its_plan_no_longer_comes_about() {
    let scenario = Scenario::parse("fake.toml", TEXT).unwrap();
    let source = Source { file: "fake.toml".to_owned(), text: TEXT.to_owned(), scenario };
    let mut request = source.request(13, None);
    let points = [("gone.away".to_owned(), 0.1), ("driver.full_inbox".to_owned(), 0.1)];
    request.plan.configuration.buggify = points.into();
    request.plan.configuration.checks.push("raft.gone".to_owned());
    let hit =
        |fault: &str, party: &str| Hit { fault: fault.to_owned(), at_ms: 7, parties: vec![party.to_owned()] };
    let fired = |hits: Vec<Hit>| Outcome { hits, ..fake(&request, &RunOptions::default()).unwrap() };
    let then = fired(vec![hit("net.loss#1", "n1"), hit("net.loss#2", "n1"), hit("net.loss#3", "n3")]);
    let artifact = Artifact::new(&request, &then);
    let unknown = ["this build has no buggify point gone.away", "this build has no oracle raft.gone"];
    assert_eq!(artifact.unmatched(&then), unknown);
    let now = fired(vec![hit("net.loss#1", "n1"), hit("net.loss#3", "n2")]);
    assert_eq!(
        artifact.unmatched(&now)[2..],
        ["net.loss#2 fired then (n1 at 7 ms), and not now", "net.loss#3 hit n3 at 7 ms, now n2 at 7 ms"]
    );
}
