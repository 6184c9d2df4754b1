//! Jepsen's EDN: what is understood, and where what is not is refused.

use eraft_checker::models::kv::{KvOp, KvRet};
use eraft_checker::models::register::{RegisterOp, RegisterRet};
use eraft_checker::{AnyHistory, Format, Malformed, ModelKind, Options, Verdict, read_history};
use proptest::prelude::*;

fn read(text: &str) -> Result<AnyHistory, Malformed> {
    read_history(text.as_bytes(), Format::Auto, None)
}

fn verdict(text: &str) -> Verdict {
    read(text).unwrap().check(&Options::default()).verdict
}

const STALE: &str = r#"
{:type :invoke, :f :write, :process 0, :value 1, :time 10, :index 0}
{:type :ok, :f :write, :process 0, :value 1, :time 20, :index 1}
{:type :info, :f :start-partition, :process :nemesis, :value {"n1" #{"n2" "n3"}}, :time 25, :index 2}
{:type :invoke, :f :cas, :process 1, :value [1 2], :time 30, :index 3}
{:type :ok, :f :cas, :process 1, :value [1 2], :time 40, :index 4}
{:type :invoke, :f :read, :process 0, :value nil, :time 50, :index 5}
{:type :ok, :f :read, :process 0, :value 1, :time 60, :index 6}
"#;

#[test]
fn lines_of_maps() {
    let AnyHistory::Register(_, history) = read(STALE).unwrap() else { panic!("not a register") };
    assert_eq!(history.operations.len(), 3);
    let cas = RegisterOp::Cas { key: None, expected: Some("1".into()), new: "2".into() };
    assert_eq!(
        (&history.operations[1].op, history.operations[1].ret()),
        (&cas, Some(&RegisterRet::Swapped(true)))
    );
    assert_eq!((history.operations[2].invoked.line, history.operations[2].invoked.time_ns), (7, Some(50)));
    assert_eq!(history.notes[0].content["lane"], "nemesis");
    assert_eq!(history.notes[0].content["text"], "start-partition {n1 #{n2 n3}}");
    assert_eq!(verdict(STALE), Verdict::Violation);
    assert_eq!(
        verdict(&STALE.replace(":process 0, :value 1, :time 60", ":process 0, :value 2, :time 60")),
        Verdict::Linearizable
    );
}

#[test]
fn a_vector_of_records_is_the_same() {
    let records = STALE.trim().replace("{:type", "#jepsen.history.Op{:type");
    for text in
        [format!("[{}]", STALE.trim()), format!("[\n{records}\n]\n"), format!("({records})"), records.clone()]
    {
        let format = if text.starts_with('(') { Format::JepsenEdn } else { Format::Auto };
        let history = read_history(text.as_bytes(), format, None).expect(&text);
        assert_eq!(history.check(&Options::default()).verdict, Verdict::Violation, "{text}");
    }
}

#[test]
fn keys_are_tuples_or_fields() {
    let tuples = r#"
{:process 0, :type :invoke, :f :write, :value [7 1]}
{:process 0, :type :ok, :f :write, :value [7 1]}
{:process 0, :type :invoke, :f :cas, :value [7 [1 2]]}
{:process 0, :type :ok, :f :cas, :value [7 [1 2]]}
{:process 1, :type :invoke, :f :read, :value [8 nil]}
{:process 1, :type :ok, :f :read, :value [8 nil]}
{:process 1, :type :invoke, :f :read, :value [7 nil]}
{:process 1, :type :ok, :f :read, :value [7 2]}
"#;
    let AnyHistory::Register(_, history) = read(tuples).unwrap() else { panic!("not a register") };
    assert_eq!(history.operations[0].op, RegisterOp::Write { key: Some("7".into()), value: "1".into() });
    assert_eq!(verdict(tuples), Verdict::Linearizable);
    let store = r#"
{:process 0 :type :invoke :f :put :key "a" :value "x"}
{:process 0 :type :ok :f :put :key "a" :value "x"}
{:process 0 :type :invoke :f :append :value ["a" "y"]}
{:process 0 :type :ok :f :append :value ["a" "y"]}
{:process 0 :type :invoke :f :get :value ["a" nil]}
{:process 0 :type :ok :f :get :value ["a" "xy"]}
{:process 0 :type :invoke :f :delete :key "a"}
{:process 0 :type :ok :f :delete :key "a"}
{:process 0 :type :invoke :f :read :key "a" :value nil}
{:process 0 :type :ok :f :read :key "a" :value nil}
"#;
    let AnyHistory::Kv(_, history) = read(store).unwrap() else { panic!("not a store") };
    assert_eq!(history.operations[1].op, KvOp::Append { key: "a".into(), value: "y".into() });
    assert_eq!(history.operations[4].ret(), Some(&KvRet::Value(None)));
    assert_eq!(verdict(store), Verdict::Linearizable);
}

#[test]
fn what_failed_did_not_happen_and_what_is_unknown_may_have() {
    let text = |kind: &str, value: &str| {
        format!(
            "{{:process 0, :type :invoke, :f :cas, :value [nil 2]}}\n{{:process 0, :type {kind}, :f :cas, :value :timed-out}}\n\
             {{:process 1, :type :invoke, :f :read}}\n{{:process 1, :type :ok, :f :read, :value {value}}}\n"
        )
    };
    assert_eq!(verdict(&text(":fail", "nil")), Verdict::Linearizable);
    assert_eq!(verdict(&text(":fail", "2")), Verdict::Violation);
    assert_eq!(verdict(&text(":info", "nil")), Verdict::Linearizable);
    assert_eq!(verdict(&text(":info", "2")), Verdict::Linearizable);
    assert_eq!(verdict(&text(":info", "3")), Verdict::Violation);
}

#[test]
fn whatever_does_not_fit_is_refused_at_its_place() {
    let write = "{:process 0, :type :invoke, :f :write, :value 1}";
    for (line, column, message) in [
        ("{:process 0, :type :ok, :f :write, :value 2}", 43, "the request's value is \"1\""),
        ("{:process 0, :type :ok, :f :read, :value 1}", 28, "the open operation of process 0 is :write"),
        ("{:process 0, :type :ok, :f :write, :value [5 1]}", 43, "process 0 is without a key"),
        ("{:process 0, :type :ok, :f :write, :value \"1\"}", 43, "strings and other values"),
        ("{:process 1, :type :ok, :f :write, :value 1}", 11, "none open"),
        ("{:process 0, :type :invoke, :f :read, :value nil}", 11, "still open"),
        ("{:process x, :type :ok, :f :write}", 11, "the number of a process"),
        ("{:process 0, :type :done, :f :write}", 20, "expected :invoke, :ok, :fail or :info"),
        ("{:process 0, :type :ok}", 1, "no :f"),
        ("{:process 0, :f :write}", 1, "no :type"),
        ("{:type :ok, :f :write}", 1, "no :process"),
        ("{:process 0, :process 0, :type :ok, :f :write}", 14, "a second :process"),
        ("{:process 0, :type :ok, :f :write, :value [1 2 3]}", 43, "expected nil, a number"),
        ("{:process 0, :type :ok, :f :write, :time -1}", 42, "expected nanoseconds"),
        ("{:process 1, :type :invoke, :f :enqueue, :value 1}", 32, "unknown request \"enqueue\""),
        ("{:process 1, :type :invoke, :f :write, :value nil}", 47, "not null"),
        ("{:process 1, :type :invoke, :f :write, :value [1 2]}", 47, "with a key, but"),
        ("{:process 1, :type :invoke, :f :cas, :value 1}", 45, "needs \"expected\""),
        ("{:process 0, :type :ok, :f :write", 34, "the file ends here"),
        ("[1 2]", 1, "expected a map"),
        ("12", 1, "expected a map"),
    ] {
        let error = read(&format!("{write}\n{line}")).expect_err(line);
        assert_eq!((error.line, error.column), (2, column), "{line}: {error}");
        assert!(error.message.contains(message), "{line}: {error}");
    }
    for (text, place, message) in [
        ("[\n{:process 0, :type :invoke, :f :read}\n", (2, 38), "expected ']' for line 1"),
        ("[{:process 0, :type :invoke, :f :read}] 1", (1, 41), "nothing after the history"),
        (
            "{:type :invoke, :process 0, :f :read, :index 5}\n{:type :ok, :process 0, :f :read, :value 1, :index 4}",
            (2, 52),
            "in their order",
        ),
        (
            "{:type :invoke, :process 0, :f :read}\n{:type :ok, :process 0, :f :read}",
            (2, 1),
            "needs a \"value\"",
        ),
    ] {
        let error = read(text).expect_err(text);
        assert_eq!((error.line, error.column), place, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn the_model_may_be_named() {
    let cas = "{:process 0, :type :invoke, :f :cas, :value [1 2]}";
    let with = |model| read_history(cas.as_bytes(), Format::JepsenEdn, Some(model)).map(|_| ());
    assert_eq!(with(ModelKind::CasRegister), Ok(()));
    assert!(with(ModelKind::Register).unwrap_err().message.contains("unknown request"));
    assert!(with(ModelKind::Kv).unwrap_err().message.contains("needs a \"key\""));
}

#[test]
fn no_depth_exhausts_the_stack() {
    for text in ["[", "[[{", "#_[", "{:a [", "#a{:b "] {
        let deep = text.repeat(1_000_000);
        assert!(read_history(deep.as_bytes(), Format::Auto, None).is_err(), "{text}…");
        assert!(read_history(deep.as_bytes(), Format::JepsenEdn, None).is_err(), "{text}…");
    }
    let note = format!("{{\"type\":\"note\",\"text\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let header = "{\"format\":\"eraft-history\",\"version\":1,\"model\":\"kv\"}";
    assert!(read_history(format!("{header}\n{note}").as_bytes(), Format::Auto, None).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}()#_:;\\\\\"a-z0-9 \n,ä]{0,60}") {
        let _ = read_history(text.as_bytes(), Format::JepsenEdn, None);
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at: usize, byte: u8) {
        let mut bytes = STALE.as_bytes().to_vec();
        let place = at % bytes.len();
        bytes[place] = byte;
        let _ = read_history(&bytes[..], Format::Auto, None);
        bytes.truncate(place);
        let _ = read_history(&bytes[..], Format::Auto, None);
    }

    /// A line that is lost may make a history, but half of a line never does.
    #[test]
    fn a_cut_line_is_refused(at: usize) {
        let text = STALE.trim();
        let last = text.rfind('\n').unwrap() + 1;
        let cut = last + 1 + at % (text.len() - last - 1);
        prop_assert!(read(&text[..cut]).is_err());
    }
}
