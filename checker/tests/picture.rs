//! The picture: what is in the file, how large it is, and that nothing in a history can get out of its place; and, where
//! Chromium is installed (`ERAFT_CHROMIUM` may name it), that the script draws without an error and can be steered. Where it
//! is not, these tests say so and pass, or fail if `ERAFT_SKIP_NOTHING` is set.

mod common;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::Rng;
use common::generate::{Shape, legal, plant_stale_read};
use eraft_checker::models::kv::{Kv, KvOp, KvRet, KvState};
use eraft_checker::{Format, Model, Options, Value, Verdict, check, picture, read_history};
use flate2::read::DeflateDecoder;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

const HOSTILE: &str =
    "</script><img src=x onerror=\"document.title='owned'\"><!-- & 'quoted' @@script@@ \\u003c";

/// The goal for a hundred thousand operations.
const PAGE_BYTES_MAX: usize = 2_000_000;

fn page(text: &str, title: &str) -> String {
    let options = Options::default();
    let history = read_history(text.as_bytes(), Format::Auto, None).unwrap();
    history.picture(&history.check(&options), title, &options)
}

/// A stale read between hostile strings, with every field that a picture shows.
fn hostile() -> String {
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    let lines = [
        r#"{"format":"eraft-history","version":1,"model":"kv"}"#.to_owned(),
        format!(r#"{{"type":"note","lane":{hostile},"text":{hostile},"lasts":true}}"#),
        format!(r#"{{"process":1,"type":"invoke","f":"put","key":{hostile},"value":{hostile},"time":1000}}"#),
        r#"{"process":1,"type":"ok","time":2000}"#.to_owned(),
        format!(
            r#"{{"process":3,"type":"invoke","f":"append","key":{hostile},"value":{hostile},"time":2500}}"#
        ),
        format!(r#"{{"process":1,"type":"invoke","f":"put","key":{hostile},"value":"2","time":3000}}"#),
        r#"{"process":1,"type":"ok","time":4000}"#.to_owned(),
        format!(r#"{{"process":2,"type":"invoke","f":"get","key":{hostile},"time":5000}}"#),
        format!(r#"{{"process":2,"type":"ok","value":{hostile},"time":6000}}"#),
        r#"{"process":2,"type":"invoke","f":"get","key":"b","time":7000}"#.to_owned(),
        r#"{"process":2,"type":"ok","value":null,"time":8000}"#.to_owned(),
    ];
    lines.join("\n")
}

/// What is between `start` and the first `end` after it.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.find(start).expect(start) + start.len();
    &text[from..from + text[from..].find(end).expect(end)]
}

fn data(page: &str) -> Json {
    serde_json::from_str(between(page, "type=\"application/json\">", "</script>")).unwrap()
}

fn columns(page: &str) -> Json {
    let packed = BASE64.decode(data(page)["columns"].as_str().unwrap()).unwrap();
    let mut json = String::new();
    DeflateDecoder::new(&packed[..]).read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn nothing_in_a_history_becomes_markup() {
    let page = page(&hostile(), HOSTILE);
    assert!(!page.contains("<img") && !page.contains("<!-- "), "markup from the history");
    for (tag, count) in [("<script", 2), ("</script", 2), ("<style", 1), ("</style", 1), ("<title", 1)] {
        assert_eq!(page.matches(tag).count(), count, "{tag}");
    }
    let json = between(&page, "type=\"application/json\">", "</script>");
    assert!(!json.contains('<'), "a < in the data");
    let data = data(&page);
    assert_eq!(data["verdict"], "violation");
    assert!(data["core"][0]["text"].as_str().unwrap().contains("</script><img"), "nothing is lost either");
}

#[test]
fn the_page_needs_nothing_else_and_allows_nothing_else() {
    let page = page(&hostile().replace(&serde_json::to_string(HOSTILE).unwrap(), "\"a\""), "a.jsonl");
    let markup = page.replace(between(&page, "type=\"application/json\">", "</script>"), "");
    for outside in
        ["http:", "https:", "src=", "href=", "url(", "import ", "fetch(", "XMLHttpRequest", "innerHTML"]
    {
        assert!(!markup.contains(outside), "{outside}");
    }
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"").replace("&#39;", "'");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let digest = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)));
    let script = &page[page.rfind("<script>").unwrap()..];
    assert!(
        policy.contains(&format!("script-src {};", digest(between(script, "<script>", "</script>")))),
        "{policy}"
    );
    assert!(
        policy.contains(&format!("style-src {};", digest(between(&page, "<style>", "</style>")))),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn the_core_and_the_order_are_the_right_operations() {
    let page = page(&hostile(), "a.jsonl");
    let (data, columns) = (data(&page), columns(&page));
    let operations: Vec<i64> =
        data["core"].as_array().unwrap().iter().map(|member| member["operation"].as_i64().unwrap()).collect();
    assert_eq!((operations[0], data["core"][0]["role"].as_str()), (3, Some("unplaceable")));
    assert!(operations.contains(&2), "the put before it: {operations:?}");
    let guilty = data["partition"].as_u64().unwrap() as usize;
    // The order ends before the return of the read, which is the last of seven events.
    assert_eq!(columns["cuts"][guilty], 6);
    assert_eq!(columns["order_length"].as_array().unwrap().len(), 2);
    assert_eq!(columns["notes"][0]["lane"], HOSTILE);
    assert_eq!(columns["times"].as_array().unwrap()[..3], [1000, 1000, 500]);
}

#[test]
fn the_unplaceable_is_found_even_if_all_is_on_one_line() {
    // The same read three times, each on line 1; only the second is stale.
    let text = "[{:process 0, :type :invoke, :f :write, :value 1} {:process 0, :type :ok, :f :write, :value 1} \
        {:process 1, :type :invoke, :f :read} {:process 1, :type :ok, :f :read, :value 1} \
        {:process 0, :type :invoke, :f :write, :value 2} {:process 0, :type :ok, :f :write, :value 2} \
        {:process 1, :type :invoke, :f :read} {:process 1, :type :ok, :f :read, :value 1} \
        {:process 1, :type :invoke, :f :read} {:process 1, :type :ok, :f :read, :value 1}]";
    assert_eq!(data(&page(text, "a.edn"))["core"][0]["operation"], 3);
}

#[test]
fn a_hundred_thousand_operations_stay_small_and_the_same() {
    let mut rng = Rng(1);
    let shape = Shape {
        operations: 100_000,
        clients: 10,
        keys: 100,
        values: 0,
        unknown: 20,
        gets: 50,
        appends: 0,
        deletes: 5,
        cas: 0,
    };
    let mut history = legal(&mut rng, &shape);
    plant_stale_read(&mut rng, &mut history);
    // Times as a recorder writes them, a different number of nanoseconds apart.
    let mut time_ns = 1_700_000_000_000_000_000;
    let mut times = Vec::new();
    for _ in 0..2 * shape.operations + 100 {
        time_ns += rng.below(100_000) as u64;
        times.push(time_ns);
    }
    for operation in &mut history.operations {
        operation.invoked.time_ns = Some(times[operation.invoked.event]);
        if let eraft_checker::Outcome::Ok { returned, .. } = &mut operation.outcome {
            returned.time_ns = Some(times[returned.event]);
        }
    }
    let options = Options::default();
    let report = check(&Kv::new(), &history, &options);
    assert_eq!(report.verdict, Verdict::Violation);
    let draw = || picture(&Kv::new(), &history, &report, "large", &options);
    let page = draw();
    assert!(page.len() < PAGE_BYTES_MAX, "{} bytes", page.len());
    assert_eq!(page, draw());
    assert_eq!(columns(&page)["invoked"].as_array().unwrap().len(), history.operations.len());
}

#[test]
fn histories_without_anything_to_draw() {
    let empty = page("{\"format\":\"eraft-history\",\"version\":1,\"model\":\"kv\"}\n", "empty");
    assert!(empty.contains("<h1>Linearizable</h1>") && empty.contains("not a single operation"));
    let options = Options { steps_max: 1, ..Options::default() };
    let text = hostile();
    let history = read_history(text.as_bytes(), Format::Auto, None).unwrap();
    let undecided = history.picture(&history.check(&options), "undecided", &options);
    assert!(undecided.contains("<h1>Undecided</h1>"));
    // The other key needs one step only.
    assert_eq!(columns(&undecided)["order_length"], serde_json::json!([0, 1]));
    for page in [empty, undecided] {
        let Some(dom) = in_browser(&page, "", "") else { continue };
        assert!(dom.contains("data-ready=\"yes\""), "{dom:.400}");
    }
}

/// A script that the test puts into a copy of the page whose policy is taken out: keys and the wheel.
const DRIVER: &str = r#"<script>
const root = document.documentElement;
const span = () => root.dataset.view.split(' ').map(Number).reduce((left, right) => right - left);
const rest = () => new Promise((done) => setTimeout(done, 300));
const press = async (key) => { document.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })); await rest(); };
(async () => {
  while (root.dataset.ready !== 'yes') await rest();
  await press('0'); const whole = span();
  await press('+'); const closer = span();
  const canvas = document.getElementById('timeline');
  canvas.dispatchEvent(new WheelEvent('wheel', { deltaY: -200, clientX: 500, clientY: 300, bubbles: true, cancelable: true })); await rest();
  const wheel = span();
  const before = root.dataset.view; await press('ArrowRight');
  const moved = before !== root.dataset.view;
  await press('c'); const core = root.dataset.scope;
  await press('h'); const home = root.dataset.scope;
  await press('n');
  const { left, top } = canvas.getBoundingClientRect();
  let tip = '';
  for (let y = 30; y < 200 && !tip; y += 8) for (let x = 110; x < 900 && !tip; x += 8) {
    canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: left + x, clientY: top + y, bubbles: true }));
    const shown = document.getElementById('tip');
    if (!shown.hidden && shown.querySelector('dl')) tip = shown.textContent;
  }
  root.dataset.driven = [closer < whole, wheel < closer, moved, core, home, /state (before|after)|not ordered/.test(tip), document.getElementById('selected').querySelectorAll('dd').length > 2].join(' ');
})();
</script></body>"#;

#[test]
fn the_script_draws_and_obeys() {
    let page = page(&hostile(), HOSTILE);
    let Some(dom) = in_browser(&page, "", "") else { return };
    assert!(dom.contains("data-ready=\"yes\"") && dom.contains("data-scope=\"key\""), "{dom:.400}");
    assert!(!dom.contains("<img") && !dom.contains("owned</title>"), "the history became markup");
    // The rows of the key, the core as buttons, and the guilty read selected.
    assert!(dom.contains("data-shown=\"4\"") && dom.contains("data-rows=\"3\""), "{dom:.400}");
    assert!(dom.contains("<button class=\"unplaceable\"") && dom.contains("no state explains this answer"));
    // What made the state that was read too late, and what ended it.
    let when = between(&dom, "class=\"when\"", "</p>");
    assert!(when.contains("(process 1, line 3)") && when.contains("(process 1, line 6)"), "{when}");

    let dom = in_browser(&page, "", "#all=1&q=get&view=fit&theme=dark").unwrap();
    assert!(dom.contains("data-shown=\"5\"") && dom.contains("data-matches=\"2\""), "{dom:.400}");
    assert!(dom.contains("data-theme=\"dark\"") && dom.contains("data-scope=\"all\""), "{dom:.400}");
    let dom = in_browser(&page, "", "#core=1&axis=time&view=2,4").unwrap();
    assert!(dom.contains("data-scope=\"core\"") && dom.contains("data-shown=\"3\""), "{dom:.400}");
    let dom = in_browser(&page, "", "#key=99&op=x&view=a,b&axis=&q=%").unwrap();
    assert!(dom.contains("data-ready=\"yes\"") && !dom.contains("data-failed"), "{dom:.400}");

    let policy = between(&page, "<meta http-equiv", ">");
    let open = page.replace(&format!("<meta http-equiv{policy}>"), "");
    let driven = in_browser(&open.replace("</body>", ""), DRIVER, "").unwrap();
    assert!(driven.contains("data-driven=\"true true true core key true true\""), "{driven:.500}");
}

/// A script that selects one operation after the other, and writes down what is told about them.
const READER: &str = r#"<script>
(async () => {
  const root = document.documentElement;
  const rest = () => new Promise((done) => setTimeout(done, 150));
  while (root.dataset.ready !== 'yes') await rest();
  const told = [];
  for (let i = 0; i < COUNT; i += 11) {
    location.hash = `#all=1&op=${i}`;
    await rest();
    const panel = document.getElementById('selected');
    const names = [...panel.querySelectorAll('dt')].map((name) => name.textContent);
    const after = panel.querySelectorAll('dd')[names.indexOf('state after')];
    told.push([panel.querySelector('.code').textContent, after ? after.textContent : null]);
  }
  const out = document.createElement('pre');
  out.id = 'told';
  out.textContent = JSON.stringify(told);
  document.body.append(out);
})();
</script></body>"#;

/// Texts are taken apart to be small; the script must put them together as they were.
#[test]
fn every_operation_is_told_as_the_model_tells_it() {
    let (mut rng, model) = (Rng(7), Kv::new());
    let values = ["a b", "?", "\"quoted\" \\", " -> ok", "é\n", "", "1", "12", "put \"x\" ?", HOSTILE];
    let mut events = eraft_checker::HistoryBuilder::new();
    let (mut held, mut expected) = (std::collections::BTreeMap::new(), Vec::new());
    // So many that most values are new, and only told by how long ago they were.
    for number in 0..1_000 {
        let key = Value::from(values[rng.below(3)]);
        let new = format!("{number} {}", values[rng.below(values.len())]);
        let value = Value::from(if number < 100 { values[rng.below(values.len())] } else { new.as_str() });
        let (op, ret) = match rng.below(3) {
            0 => (KvOp::Get { key: key.clone() }, KvRet::Value(held.get(&key).cloned())),
            1 => {
                held.insert(key.clone(), value.clone());
                (KvOp::Put { key: key.clone(), value }, KvRet::Done)
            }
            _ => {
                let before: Value = held.get(&key).cloned().unwrap_or_else(|| "".into());
                held.insert(key.clone(), before.concat(&value));
                (KvOp::Append { key: key.clone(), value }, KvRet::Done)
            }
        };
        let state = held.get(&key).cloned().map_or(KvState::Missing, KvState::Value);
        expected.push((model.describe(&op, Some(&ret)), Some(model.describe_state(&state))));
        events.invoke(1, op, 0, None).unwrap();
        events.ok(1, ret, None, 0, None).unwrap();
    }
    let history = events.finish();
    let options = Options::default();
    let page = picture(&model, &history, &check(&model, &history, &options), "told", &options);
    let policy = between(&page, "<meta http-equiv", ">");
    let open = page.replace(&format!("<meta http-equiv{policy}>"), "").replace("</body>", "");
    let Some(dom) = in_browser(&open, &READER.replace("COUNT", &expected.len().to_string()), "") else {
        return;
    };
    let told = between(&dom, "<pre id=\"told\">", "</pre>");
    let told =
        told.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    assert_eq!(
        serde_json::from_str::<Vec<(String, Option<String>)>>(&told).unwrap(),
        expected.into_iter().step_by(11).collect::<Vec<_>>()
    );
}

const NO_BROWSER: &str =
    "SKIPPED: no Chromium is installed (ERAFT_CHROMIUM names one that is not in the path)";

/// The document after the script has run; `None`, with a message, if there is no browser. Errors on the console fail.
fn in_browser(page: &str, more: &str, hash: &str) -> Option<String> {
    let Some(browser) = browser() else {
        assert!(std::env::var_os("ERAFT_SKIP_NOTHING").is_none(), "{NO_BROWSER}");
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        // What a macro prints is not shown if the test passes.
        let mut shown = std::io::stderr();
        shown.write_all(format!("{name}: {NO_BROWSER}\n").as_bytes()).unwrap();
        return None;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.html");
    std::fs::write(&file, format!("{page}{more}")).unwrap();
    let output = directory.path().join("dom");
    let console = directory.path().join("console");
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
        .args([
            "--window-size=1400,900",
            "--virtual-time-budget=20000",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("file://{}{hash}", file.display()))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(std::fs::File::create(&console).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the browser did not come to an end: {}", std::fs::read_to_string(&console).unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let console = std::fs::read_to_string(console).unwrap();
    let errors: Vec<&str> = console.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(errors.is_empty(), "on the console: {errors:#?}");
    Some(std::fs::read_to_string(output).unwrap())
}

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ERAFT_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let files = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}
