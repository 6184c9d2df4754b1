//! A server that takes a mutation and never answers: the outcome is unknown, and the command says so.

use std::pin::Pin;

use eraft::proto::kv::kv_server::{Kv, KvServer};
use eraft::proto::kv::{self as pb, done, reply, request};
use eraft::replica::frames::{Joiner, Splitter};
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{Ctrlers, eraft, run};

/// Opens sessions, and answers nothing else.
struct Silent;

#[tonic::async_trait]
impl Kv for Silent {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::Frame, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::Frame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mut joiner, mut splitter) = (Joiner::default(), Splitter::default());
        let frames = request.into_inner().skip(1); // the hello
        let replies = frames.filter_map(move |frame| {
            let message = joiner.join(frame.unwrap().payload).unwrap().unwrap();
            let request = pb::Request::decode(message).unwrap();
            let opened = done::Result::SessionOpened(true);
            let outcome = reply::Outcome::Done(pb::Done { result: Some(opened), index: 1 });
            let reply = pb::Reply { id: request.id, outcome: Some(outcome) };
            let opens = matches!(request.operation, Some(request::Operation::OpenSession(_)));
            let frame = opens.then(|| pb::Frame { payload: splitter.split(&reply).remove(0) });
            std::future::ready(frame.map(Ok))
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn call(&self, _: Request<pb::Frame>) -> Result<Response<pb::Frame>, Status> {
        Err(Status::unimplemented("silent"))
    }
}

/// Serves on the runtime; the address.
fn serve(runtime: &tokio::runtime::Runtime) -> String {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let router = tonic::transport::Server::builder().add_service(KvServer::new(Silent));
    runtime.spawn(router.serve_with_incoming(incoming));
    address
}

#[test]
fn no_answer_to_a_mutation_is_exit_code_4() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = serve(&runtime);
    let said =
        |arguments: &[&str]| run(eraft().args(arguments).args(["--cluster", &cluster, "--timeout", "500ms"]));
    said(&["put", "a", "1"]).failed(4, &["put \"a\"", "outcome unknown", "may have been executed"]);
    said(&["cas", "a", "1", "2"]).failed(4, &["cas \"a\"", "outcome unknown"]);
    said(&["get", "a"]).failed(3, &["get \"a\"", "not executed"]);
    said(&["bench", "--seconds", "1", "--clients", "1", "--mix", "put=1"]).failed(4, &["outcome unknown"]);
}

/// The same through controllers: the group that has the shard takes the mutation and never answers.
#[test]
fn no_answer_of_a_shards_group_is_exit_code_4() {
    let (runtime, directory) = (tokio::runtime::Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let ctrlers = Ctrlers::start(directory.path());
    ctrlers.run(&["join", &format!("100={}", serve(&runtime))]).printed("OK: config 1\n");
    let said = |arguments: &[&str]| ctrlers.run(&[arguments, &["--timeout", "1s"]].concat());
    said(&["put", "a", "1"]).failed(4, &["put \"a\"", "outcome unknown", "may have been executed"]);
    said(&["append", "a", "1"]).failed(4, &["append \"a\"", "outcome unknown"]);
    said(&["get", "a"]).failed(3, &["get \"a\"", "not executed"]);
}
