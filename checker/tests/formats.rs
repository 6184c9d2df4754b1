//! Reading and writing: whatever is not a history is refused, at the right place, and never by a panic.

mod common;

use common::generate::{Shape, legal};
use common::{KvHistory, Rng};
use eraft_checker::models::kv::{Kv, KvOp, KvRet};
use eraft_checker::{
    AnyHistory, Format, Malformed, ModelKind, Options, Outcome, Value, Verdict, check_jsonl, read_history,
    write_jsonl,
};
use proptest::prelude::*;

const HEADER: &str = r#"{"format":"eraft-history","version":1,"model":"kv"}"#;

fn kv(text: &str) -> Result<KvHistory, Malformed> {
    match read_history(text.as_bytes(), Format::Auto, None)? {
        AnyHistory::Kv(_, history) => Ok(history),
        other => panic!("not a store: {other:?}"),
    }
}

/// The events after a header; the error's place is that in the events.
fn refused(events: &str) -> (usize, usize, String) {
    let error = kv(&format!("{HEADER}\n{events}")).expect_err(events);
    (error.line - 1, error.column, error.message)
}

#[test]
fn all_requests_and_answers() {
    let text = format!(
        r#"{HEADER}
{{"process":1,"type":"invoke","f":"cas","key":"a","expected":null,"value":"1","time":5}}
{{"process":1,"type":"ok","f":"cas","swapped":true,"index":7,"time":9}}
{{"process":2,"type":"invoke","f":"put","key":{{"hex":"ff00"}},"value":"2"}}
{{"process":2,"type":"fail","error":"not leader"}}
{{"process":2,"type":"invoke","f":"append","key":"a","value":"2"}}
{{"process":2,"type":"info","error":"timeout"}}

{{"type":"note","text":"node 1 crashed"}}
{{"process":2,"type":"invoke","f":"get","key":"a","value":null}}
{{"process":2,"type":"ok","f":"get","key":"a","value":"12"}}
{{"process":2,"type":"invoke","f":"delete","key":"a"}}
{{"process":2,"type":"ok","deleted":true}}
{{"process":3,"type":"invoke","f":"get","key":"b"}}
"#
    );
    let history = kv(&text).unwrap();
    assert_eq!((history.operations.len(), history.failed, history.notes.len()), (5, 1, 1));
    let Outcome::Ok { ret, returned } = &history.operations[0].outcome else { panic!() };
    assert_eq!((ret, history.operations[0].index), (&KvRet::Swapped(true), Some(7)));
    assert_eq!((returned.line, returned.time_ns), (3, Some(9)));
    assert_eq!(history.operations[1].outcome, Outcome::Unknown);
    assert_eq!(history.operations[3].op, KvOp::Delete { key: "a".into() });
    assert_eq!(history.notes[0].line, 9);
    let report = check_jsonl(text.as_bytes(), None, &Default::default()).unwrap();
    assert_eq!(report.verdict, Verdict::Linearizable);
    assert_eq!((report.operations, report.unknown, report.partitions), (5, 2, 2));
}

#[test]
fn a_header_may_say_what_every_key_has_at_first() {
    let text = |header: &str, read: &str| {
        format!(
            r#"{header}
{{"process":1,"type":"invoke","f":"append","key":"a","value":"1"}}
{{"process":1,"type":"ok"}}
{{"process":2,"type":"invoke","f":"get","key":"a"}}
{{"process":2,"type":"ok","value":"{read}"}}
{{"process":2,"type":"invoke","f":"get","key":"b"}}
{{"process":2,"type":"ok","value":"0"}}
"#
        )
    };
    let header = r#"{"format":"eraft-history","version":1,"model":"kv","initial":"0"}"#;
    for (read, verdict) in [("01", Verdict::Linearizable), ("1", Verdict::Violation)] {
        let history = read_history(text(header, read).as_bytes(), Format::Auto, None).unwrap();
        assert_eq!(history.check(&Options::default()).verdict, verdict);
        let mut written = Vec::new();
        history.write(&mut written).unwrap();
        let again = read_history(&written[..], Format::Auto, None).unwrap();
        assert_eq!(again.check(&Options::default()).verdict, verdict);
        let followed = eraft_checker::follow_jsonl(&written[..], None, Default::default()).unwrap();
        assert_eq!(followed.verdict, verdict);
    }
    let elsewhere = header.replace("kv", "register");
    let error = read_history(elsewhere.as_bytes(), Format::Auto, None).unwrap_err();
    assert_eq!((error.line, error.column), (1, 58), "{error}");
}

#[test]
fn an_index_places_an_operation_that_no_client_learned_of() {
    let history = |indexes: [&str; 2]| {
        format!(
            r#"{{"format":"eraft-history","version":1,"model":"kv"}}
{{"process":0,"type":"invoke","f":"put","key":"a","value":"1"}}
{{"process":0,"type":"info"{}}}
{{"process":1,"type":"invoke","f":"cas","key":"a","expected":"1","value":"2"}}
{{"process":1,"type":"info"{}}}
{{"process":2,"type":"invoke","f":"get","key":"a"}}
{{"process":2,"type":"ok","value":"2","index":9}}
"#,
            indexes[0], indexes[1]
        )
    };
    let check = |indexes| {
        let report = check_jsonl(history(indexes).as_bytes(), None, &Default::default()).unwrap();
        assert_eq!(report.verdict, Verdict::Linearizable);
        report.steps
    };
    assert_eq!(check([r#","index":3"#, r#","index":5"#]), 3, "the order is replayed, nothing is searched");
    assert!(check(["", ""]) > 3);
    assert!(check([r#","index":5"#, r#","index":3"#]) > 3, "a wrong hint costs steps and no verdict");
}

#[test]
fn errors_say_where_and_what() {
    let put = r#"{"process":1,"type":"invoke","f":"put","key":"a","value":"1"}"#;
    let cases = [
        (r#"{"process":1,"type":"invoke","f":"put","key":"a""#, 48, "EOF while parsing"),
        (r#"{"process":1,"type":"invoke","f":"put","key":"a"}"#, 1, "put needs a \"value\""),
        (r#"{"process":1,"type":"invoke","f":"put","value":"1"}"#, 1, "put needs a \"key\""),
        (r#"{"process":1,"type":"invoke","f":"swap","key":"a"}"#, 30, "unknown request \"swap\""),
        (r#"{"process":1,"type":"invoke","key":"a"}"#, 1, "must say what is asked"),
        (r#"{"process":1,"type":"begin","f":"get","key":"a"}"#, 27, "unknown variant `begin`"),
        (r#"{"process":-1,"type":"invoke","f":"get","key":"a"}"#, 13, "invalid value"),
        (r#"{"process":1,"type":"invoke","f":"get","key":"a","vaule":"1"}"#, 56, "unknown field `vaule`"),
        (r#"{"process":1,"type":"invoke","f":"put","key":"a","value":1}"#, 58, "a string or {\"hex\":\"…\"}"),
        (
            r#"{"process":1,"type":"invoke","f":"get","key":"a","swapped":true}"#,
            50,
            "has no \"swapped\" here",
        ),
        (r#"{"process":1,"type":"ok","value":"1"}"#, 2, "it has none open"),
        (r#"{"process":1,"type":"info"}"#, 2, "it has none open"),
        (r#"{"format":"eraft-history","version":1}"#, 2, "a header that is not the first line"),
        ("[]", 1, "expected a JSON object"),
        ("nonsense", 1, "expected a JSON object"),
        ("{nonsense}", 2, "key must be a string"),
    ];
    for (event, column, message) in cases {
        let refused = refused(event);
        assert_eq!((refused.0, refused.1), (1, column), "{event}: {}", refused.2);
        assert!(refused.2.contains(message), "{event}: {}", refused.2);
    }
    let after_put = [
        (put, 2, "the one that it invoked at line 2 is still open"),
        (
            r#"{"process":1,"type":"ok","f":"get","value":"1"}"#,
            26,
            "the open operation of process 1 is \"put\"",
        ),
        (r#"{"process":1,"type":"ok","key":"b"}"#, 26, "is on key \"a\""),
        (r#"{"process":1,"type":"ok","value":"2"}"#, 26, "the request's value is \"1\""),
        (r#"{"process":1,"type":"fail","index":3}"#, 28, "only an ok or an info has an index"),
        (r#"{"process":1,"type":"ok","error":"x"}"#, 26, "only a fail or an info has an error"),
        (r#"{"process":2,"type":"ok"}"#, 2, "process 2 completes an operation, but it has none open"),
    ];
    for (event, column, message) in after_put {
        let refused = refused(&format!("{put}\n{event}"));
        assert_eq!((refused.0, refused.1), (2, column), "{event}: {}", refused.2);
        assert!(refused.2.contains(message), "{event}: {}", refused.2);
    }
}

#[test]
fn a_read_without_a_value_is_not_a_read_of_nothing() {
    let get = r#"{"process":1,"type":"invoke","f":"get","key":"a"}"#;
    let (line, _, message) = refused(&format!("{get}\n{}", r#"{"process":1,"type":"ok","f":"get"}"#));
    assert_eq!(line, 2);
    assert!(message.contains("null says that there is none"), "{message}");
    let answered = format!("{HEADER}\n{get}\n{}", r#"{"process":1,"type":"ok","f":"get","value":null}"#);
    assert_eq!(kv(&answered).unwrap().operations[0].ret(), Some(&KvRet::Value(None)));
}

#[test]
fn the_header_and_the_request_must_agree() {
    let read = |text: &str, model| read_history(text.as_bytes(), Format::Auto, model).map(|_| ());
    assert_eq!(read(HEADER, None), Ok(()));
    assert_eq!(read(HEADER, Some(ModelKind::Kv)), Ok(()));
    let error = read(HEADER, Some(ModelKind::Register)).unwrap_err();
    assert_eq!((error.line, error.column), (1, 39));
    assert!(error.message.contains("model kv, but register was asked for"), "{error}");
    for wrong in [
        r#"{"format":"eraft-history","version":2,"model":"kv"}"#,
        r#"{"format":"other","version":1,"model":"kv"}"#,
        r#"{"format":"eraft-history","version":1}"#,
        r#"{"format":"eraft-history","version":1,"model":"queue"}"#,
        r#"{"process":1,"type":"invoke","f":"get","key":"a"}"#,
        "",
        "hello",
    ] {
        assert!(read(wrong, None).is_err(), "{wrong}");
    }
    let headless = r#"{"process":1,"type":"invoke","f":"read"}"#;
    assert_eq!(read(headless, Some(ModelKind::Register)), Ok(()));
    let cas = r#"{"process":1,"type":"invoke","f":"cas","expected":"1","value":"2"}"#;
    assert_eq!(read(cas, Some(ModelKind::CasRegister)), Ok(()));
    assert!(read(cas, Some(ModelKind::Register)).is_err());
}

/// A file of each of the other models: it reads back as it is written, and has the verdict.
#[test]
fn the_other_models_have_files_too() {
    let header = |model: &str| format!("{{\"format\":\"eraft-history\",\"version\":1,\"model\":{model}}}\n");
    let counter = r#"{"process":1,"type":"invoke","f":"add","amount":5}
{"process":1,"type":"ok","f":"add"}
{"process":1,"type":"invoke","f":"read"}
{"process":1,"type":"ok","f":"read","sum":5}
"#;
    let list = r#"{"process":1,"type":"invoke","f":"append","key":"a","value":"x"}
{"process":1,"type":"ok","f":"append"}
{"process":1,"type":"invoke","f":"read","key":"a"}
{"process":1,"type":"ok","f":"read","list":["x"]}
"#;
    let controller = r#"{"process":1,"type":"invoke","f":"join","groups":[1,2]}
{"process":1,"type":"ok","f":"join"}
{"process":1,"type":"invoke","f":"move","shard":7,"group":1}
{"process":1,"type":"ok","f":"move","refused":true}
{"process":1,"type":"invoke","f":"query"}
{"process":1,"type":"ok","f":"query","config":{"number":1,"groups":[1,2],"shards":[1,2]}}
"#;
    let files = [
        (header("\"counter\"") + counter, "\"sum\":5", "\"sum\":6"),
        (header("\"list-append\"") + list, "[\"x\"]", "[]"),
        (header("\"ctrler\",\"shards\":2") + controller, "\"shards\":[1,2]", "\"shards\":[1,1]"),
    ];
    for (legal, right, wrong) in files {
        let read = |text: &str| read_history(text.as_bytes(), Format::Auto, None).unwrap();
        let verdict = |text: &str| read(text).check(&Options::default()).verdict;
        let mut written = Vec::new();
        read(&legal).write(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), legal);
        assert_eq!(verdict(&legal), Verdict::Linearizable, "{legal}");
        let illegal = legal.replace(right, wrong);
        assert_eq!(verdict(&illegal), Verdict::Violation, "{illegal}");
        let small = read(&illegal).minimize(&Options::default()).unwrap();
        assert_eq!(small.check(&Options::default()).verdict, Verdict::Violation);
        // A field of another model is refused.
        let foreign = legal.replace(right, &format!("{right},\"deleted\":true"));
        assert!(read_history(foreign.as_bytes(), Format::Auto, None).is_err(), "{foreign}");
    }
}

#[test]
fn other_formats_refuse_what_they_do_not_understand() {
    let jepsen = "INFO  jepsen.util - 0\t:invoke\t:write\t4\n";
    for (line, place) in [
        ("INFO  jepsen.util - 0\t:ok\t:write\t5", (2, 34)),
        ("INFO  jepsen.util - 0\t:ok\t:read\t4", (2, 27)),
        ("INFO  jepsen.util - 1\t:ok\t:write\t4", (2, 21)),
        ("INFO  jepsen.util - 0\t:done\t:write\t4", (2, 23)),
        ("INFO  jepsen.util - x\t:ok\t:write\t4", (2, 21)),
        ("INFO  jepsen.util - 0\t:invoke", (2, 30)),
        ("{", (2, 1)),
    ] {
        let text = format!("{jepsen}{line}\n");
        let error = read_history(text.as_bytes(), Format::Auto, None).expect_err(line);
        assert_eq!((error.line, error.column), place, "{line}: {error}");
    }
    let porcupine = "{:process 1, :type :invoke, :f :put, :key \"a\", :value \"1\"}\n";
    for line in [
        "{:process 1, :type :ok, :f :get, :key \"a\", :value \"1\"}",
        "{:process 1, :type :ok, :f :put, :key \"b\", :value \"1\"}",
        "{:process 2, :type :ok, :f :put, :key \"a\", :value \"1\"}",
        "{:process 1, :type :ok, :f :put, :key \"a\", :value \"1\"",
        "{:process 1, :type :ok, :f :put, :key \"a\", :value 1}",
    ] {
        let error =
            read_history(format!("{porcupine}{line}").as_bytes(), Format::Auto, None).expect_err(line);
        assert_eq!(error.line, 2, "{line}: {error}");
    }
}

/// `:read 12` and `:read 1` are both whole; only the end of the line tells that nothing was cut off.
#[test]
fn a_log_that_was_cut_has_no_verdict() {
    let begins = "INFO  jepsen.util - 0\t:invoke\t:write\t12\nINFO  jepsen.util - 0\t:ok\t:write\t12\n\
                  INFO  jepsen.util - 1\t:invoke\t:read\tnil\n";
    let last = "INFO  jepsen.util - 1\t:ok\t:read\t12\n";
    let read = |text: String| read_history(text.as_bytes(), Format::Auto, None);
    let verdict = read(format!("{begins}{last}")).unwrap().check(&Options::default()).verdict;
    assert_eq!(verdict, Verdict::Linearizable);
    assert!(read(begins.to_owned()).is_ok(), "cut between two lines");
    for cut in 1..last.len() {
        let error = read(format!("{begins}{}", &last[..cut])).expect_err("a cut line");
        assert_eq!(error.line, 4, "{cut}: {error}");
    }
    let error = read(format!("{begins}{}", last.trim_end())).expect_err("a cut line");
    assert_eq!((error.column, error.message.contains("may have been cut")), (last.len(), true), "{error}");
}

/// Process, request, answer, index, and the ranks of the events.
type Content = (u64, KvOp, Option<KvRet>, Option<u64>, usize, Option<usize>);

/// What a history says, without the places in the file.
fn content(history: &KvHistory) -> Vec<Content> {
    let mut events: Vec<usize> = history.operations.iter().map(|operation| operation.invoked.event).collect();
    events.extend(history.operations.iter().filter_map(|operation| operation.returned()).map(|at| at.event));
    events.sort_unstable();
    let rank = |event: usize| events.binary_search(&event).unwrap();
    let operations = history.operations.iter().map(|operation| {
        let returned = operation.returned().map(|returned| rank(returned.event));
        (
            operation.process,
            operation.op.clone(),
            operation.ret().cloned(),
            operation.index,
            rank(operation.invoked.event),
            returned,
        )
    });
    operations.collect()
}

proptest! {
    #[test]
    fn a_history_reads_back_as_it_was_written(seed: u64) {
        let mut rng = Rng(seed);
        let shape = Shape::small(&mut rng);
        let mut history = legal(&mut rng, &Shape { operations: 30, unknown: 5, ..shape });
        for (operation, index) in history.operations.iter_mut().zip(0..) {
            operation.index = (index % 3 > 0).then_some(index);
        }
        let mut written = Vec::new();
        write_jsonl(&Kv::new(), ModelKind::Kv, &history, &mut written).unwrap();
        let read = kv(std::str::from_utf8(&written).unwrap()).unwrap();
        prop_assert_eq!(content(&read), content(&history));
    }

    #[test]
    fn a_value_reads_back_as_it_was_written(bytes: Vec<u8>) {
        let value = Value::new(&bytes);
        let written = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, format in 0..4_usize) {
        let format = [Format::Auto, Format::Jsonl, Format::JepsenLog, Format::PorcupineKv][format];
        let _ = read_history(&bytes[..], format, Some(ModelKind::Kv));
    }

    #[test]
    fn no_damage_makes_a_reader_panic(seed: u64, at: usize, byte: u8, form in 0..DAMAGED.len() + 1) {
        let mut rng = Rng(seed);
        let shape = Shape::small(&mut rng);
        let mut bytes = Vec::new();
        match DAMAGED.get(form) {
            Some(text) => bytes.extend_from_slice(text.as_bytes()),
            None => write_jsonl(&Kv::new(), ModelKind::Kv, &legal(&mut rng, &shape), &mut bytes).unwrap(),
        }
        let place = at % bytes.len();
        bytes[place] = byte;
        survives(&bytes);
        bytes.truncate(place);
        survives(&bytes);
    }
}

/// A history of each form, to be damaged.
const DAMAGED: [&str; 6] = [
    "INFO  jepsen.util - 0\t:invoke\t:cas\t[3 0]\nINFO  jepsen.util - 0\t:ok\t:cas\t[3 0]\n",
    "{:process 1, :type :invoke, :f :get, :key \"a\", :value nil}\n",
    "{:type :invoke, :process 0, :f :cas, :value [3 4]}\n{:type :ok, :process 0, :f :cas, :value [3 4], :time 9}\n",
    r#"{"format":"eraft-history","version":1,"model":"counter"}
{"process":1,"type":"invoke","f":"add","amount":9223372036854775807,"time":18446744073709551615}
{"process":1,"type":"ok","index":18446744073709551615,"time":1}
{"process":1,"type":"invoke","f":"read"}
{"process":1,"type":"ok","sum":-9223372036854775808}
"#,
    r#"{"format":"eraft-history","version":1,"model":"list-append"}
{"process":18446744073709551615,"type":"invoke","f":"append","key":"a","value":"1"}
{"process":2,"type":"invoke","f":"read","key":"a"}
{"process":2,"type":"ok","list":["1",{"hex":"ff"}]}
{"type":"note","lane":"faults","lasts":true,"text":"<b>"}
"#,
    r#"{"format":"eraft-history","version":1,"model":"ctrler","shards":3}
{"process":1,"type":"invoke","f":"join","groups":[1,2]}
{"process":1,"type":"ok"}
{"process":1,"type":"invoke","f":"move","shard":18446744073709551615,"group":4294967295}
{"process":1,"type":"ok","refused":true}
{"process":1,"type":"invoke","f":"query","number":9}
{"process":1,"type":"ok","config":{"number":1,"groups":[1,2],"shards":[1,2,1]}}
"#,
];

/// Whatever can be read can be checked, made small and drawn.
fn survives(bytes: &[u8]) {
    let options = Options { steps_max: 10_000, ..Options::default() };
    if let Ok(history) = read_history(bytes, Format::Auto, None) {
        let report = history.check(&options);
        let _ = history.minimize(&options);
        let _ = history.picture(&report, "damaged", &options);
        let mut written = Vec::new();
        history.write(&mut written).unwrap();
        let again = read_history(&written[..], Format::Auto, None).expect("what was written can be read");
        assert_eq!(again.check(&options).verdict, report.verdict);
        let _ = eraft_checker::follow_jsonl(&written[..], None, Default::default());
    }
}

#[test]
fn the_histories_that_are_damaged_are_whole() {
    for text in DAMAGED {
        read_history(text.as_bytes(), Format::Auto, None).unwrap_or_else(|error| panic!("{text}: {error}"));
        survives(text.as_bytes());
    }
}
