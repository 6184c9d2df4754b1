//! The format, line by line; processes; concurrent use; failing sinks.

use std::io;

use super::*;

fn get(key: &'static str) -> Operation {
    Operation::Get { key: key.into() }
}

fn put(key: &'static str, value: &'static str) -> Operation {
    Operation::Put { key: key.into(), value: value.into() }
}

fn ok(result: OperationResult, index: Option<u64>) -> Outcome {
    Outcome::Ok { result, index }
}

fn done() -> Outcome {
    ok(OperationResult::Done, None)
}

fn info() -> Outcome {
    Outcome::Info { error: "no reply".into() }
}

fn text(recorder: &Recorder) -> String {
    recorder.flush().unwrap();
    String::from_utf8(recorder.memory().unwrap()).unwrap()
}

#[test]
fn every_kind_of_line_is_as_documented() {
    let recorder = Recorder::in_memory();
    let value = |value: Option<&'static str>| OperationResult::Value(value.map(Into::into));
    let cas = |expected: Option<&'static str>| Operation::Cas {
        key: "a".into(),
        expected: expected.map(Into::into),
        value: "2".into(),
    };
    let raw = Operation::Append { key: "\u{e9}\"".into(), value: Bytes::from_static(b"\xff\0") };
    for (time_ns, operation, outcome) in [
        (10, put("a", ""), ok(OperationResult::Done, Some(7))),
        (20, raw, done()),
        (30, get("a"), ok(value(Some("1")), Some(8))),
        (40, get("a"), ok(value(Some("")), None)),
        (50, get("a"), ok(value(None), None)),
        (60, cas(Some("1")), ok(OperationResult::Swapped(true), None)),
        (70, cas(None), ok(OperationResult::Swapped(false), None)),
        (80, Operation::Delete { key: "a".into() }, ok(OperationResult::Deleted(false), None)),
        (90, put("a", "1"), Outcome::Fail { error: "overloaded".into() }),
        (100, put("a", "1"), info()),
    ] {
        let handle = recorder.invoke(&operation, time_ns);
        recorder.complete(handle, &outcome, time_ns + 5);
    }
    recorder.note("n1 was \"killed\"", 110);
    let expected = r#"{"format":"eraft-history","version":1,"model":"kv"}
{"process":0,"type":"invoke","f":"put","key":"a","value":"","time":10}
{"process":0,"type":"ok","f":"put","index":7,"time":15}
{"process":0,"type":"invoke","f":"append","key":"é\"","value":{"hex":"ff00"},"time":20}
{"process":0,"type":"ok","f":"append","time":25}
{"process":0,"type":"invoke","f":"get","key":"a","time":30}
{"process":0,"type":"ok","f":"get","value":"1","index":8,"time":35}
{"process":0,"type":"invoke","f":"get","key":"a","time":40}
{"process":0,"type":"ok","f":"get","value":"","time":45}
{"process":0,"type":"invoke","f":"get","key":"a","time":50}
{"process":0,"type":"ok","f":"get","value":null,"time":55}
{"process":0,"type":"invoke","f":"cas","key":"a","expected":"1","value":"2","time":60}
{"process":0,"type":"ok","f":"cas","swapped":true,"time":65}
{"process":0,"type":"invoke","f":"cas","key":"a","expected":null,"value":"2","time":70}
{"process":0,"type":"ok","f":"cas","swapped":false,"time":75}
{"process":0,"type":"invoke","f":"delete","key":"a","time":80}
{"process":0,"type":"ok","f":"delete","deleted":false,"time":85}
{"process":0,"type":"invoke","f":"put","key":"a","value":"1","time":90}
{"process":0,"type":"fail","f":"put","error":"overloaded","time":95}
{"process":0,"type":"invoke","f":"put","key":"a","value":"1","time":100}
{"process":0,"type":"info","f":"put","error":"no reply","time":105}
{"type":"note","text":"n1 was \"killed\"","time":110}
"#;
    assert_eq!(text(&recorder), expected);
}

#[test]
fn a_process_is_used_again_after_ok_and_fail_but_never_after_info_or_a_lost_handle() {
    let recorder = Recorder::in_memory();
    let first = recorder.invoke(&get("a"), 1);
    let second = recorder.invoke(&put("a", "1"), 1);
    assert_eq!((first.process(), second.process()), (0, 1), "at the same time: two processes");
    recorder.complete(first, &Outcome::Fail { error: "not the leader".into() }, 2);
    let third = recorder.invoke(&put("a", "2"), 3);
    assert_eq!(third.process(), 0, "fail frees");
    recorder.complete(third, &info(), 4);
    recorder.complete(second, &done(), 4);
    let fourth = recorder.invoke(&get("a"), 5);
    assert_eq!(fourth.process(), 1, "info retires 0, ok frees 1");
    drop(fourth);
    assert_eq!(recorder.invoke(&get("a"), 6).process(), 2, "a lost handle retires 1");
}

#[test]
fn a_process_never_goes_back_in_time() {
    let recorder = Recorder::in_memory();
    let first = recorder.invoke(&put("a", "1"), 100);
    recorder.complete(first, &done(), 90);
    assert!(
        text(&recorder).ends_with("\"type\":\"ok\",\"f\":\"put\",\"time\":100}\n"),
        "{}",
        text(&recorder)
    );
    assert_eq!(recorder.invoke(&get("a"), 99).process(), 1, "0 was busy at that time");
    assert_eq!(recorder.invoke(&get("a"), 100).process(), 0);
}

/// A sink that takes a number of bytes and is full then.
struct Full {
    left: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.left {
            return Err(io::Error::other("the device is full"));
        }
        self.left -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_of_the_sink_is_told_at_every_flush_from_then_on() {
    let recorder = Recorder::to(Full { left: 60 });
    assert_eq!(recorder.flush(), Ok(()));
    let handle = recorder.invoke(&put("a", "1"), 1);
    let error = recorder.flush().unwrap_err();
    assert!(error.to_string().contains("the device is full"), "{error}");
    recorder.complete(handle, &done(), 2);
    assert_eq!(recorder.flush(), Err(error), "it is not forgotten");
    assert_eq!(recorder.memory(), None);
}

#[test]
fn a_large_event_that_fails_at_once_is_told_too() {
    let recorder = Recorder::to(Full { left: 60 });
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    let _open = recorder.invoke(&Operation::Put { key: "a".into(), value }, 1);
    assert_eq!(recorder.flush().unwrap_err().line, 2);
}

#[test]
fn an_answer_that_does_not_fit_its_operation_makes_the_history_incomplete() {
    let recorder = Recorder::in_memory();
    let handle = recorder.invoke(&get("a"), 1);
    recorder.complete(handle, &done(), 2);
    let error = recorder.flush().unwrap_err();
    assert_eq!((error.line, error.reason.as_str()), (3, "the get of process 0 was answered with Done"));
}

#[test]
fn a_file_gets_what_memory_gets() {
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("history.jsonl");
    let (file, memory) = (Recorder::to(std::fs::File::create(&path).unwrap()), Recorder::in_memory());
    for recorder in [&file, &memory] {
        let handle = recorder.invoke(&put("a", "1"), 1);
        recorder.complete(handle, &done(), 2);
        recorder.flush().unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), memory.memory().unwrap());
}

// Threads exist in the real build only; the simulator refuses them.
#[cfg(not(madsim))]
#[test]
fn many_threads_write_whole_lines_and_well_formed_processes() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const THREADS: u64 = 8;
    const OPERATIONS: u64 = 200;
    let recorder = Arc::new(Recorder::in_memory());
    let clock = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (recorder, clock) = (recorder.clone(), clock.clone());
            std::thread::spawn(move || {
                let now_ns = || clock.fetch_add(1, Ordering::SeqCst);
                for operation in 0..OPERATIONS {
                    let handle = recorder.invoke(&put("a", "1"), now_ns());
                    let outcome = if (operation + thread) % 50 == 0 { info() } else { done() };
                    recorder.complete(handle, &outcome, now_ns());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    #[derive(PartialEq, Debug)]
    enum Is {
        Open,
        Free(u64),
        Retired,
    }
    let mut processes = BTreeMap::new();
    let mut events = 0;
    for line in text(&recorder).lines().skip(1) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let (process, time) = (event["process"].as_u64().unwrap(), event["time"].as_u64().unwrap());
        let before = processes.remove(&process);
        let now = match (event["type"].as_str().unwrap(), before) {
            ("invoke", None) => Is::Open,
            ("invoke", Some(Is::Free(since))) if since <= time => Is::Open,
            ("ok", Some(Is::Open)) => Is::Free(time),
            ("info", Some(Is::Open)) => Is::Retired,
            (kind, before) => panic!("{kind} after {before:?}: {line}"),
        };
        processes.insert(process, now);
        events += 1;
    }
    assert_eq!(events, THREADS * OPERATIONS * 2);
    let retired = processes.values().filter(|is| **is == Is::Retired).count() as u64;
    assert_eq!(retired, THREADS * OPERATIONS / 50);
    assert!(processes.len() as u64 <= retired + 4 * THREADS, "processes are used again: {}", processes.len());
}
