//! A name server of a story's own, on this machine's loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What becomes of a question for any name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Stand(Ipv4Addr),
    /// SERVFAIL: the server has trouble of its own.
    Fail,
    /// NXDOMAIN: there is no such name.
    Missing,
    /// No answer at all.
    Silent,
}

/// Answers hold for no time, so that every connection asks anew.
#[derive(Debug)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    names: watch::Sender<Names>,
    asked: Arc<AtomicUsize>,
    serving: AbortHandle,
}

impl NameServer {
    /// All names stand for this machine.
    pub(crate) async fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (names, state) = watch::channel(Names::Stand(Ipv4Addr::LOCALHOST));
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let names = *state.borrow();
                count.fetch_add(1, Relaxed);
                if let Some(answer) = answer(names, &question) {
                    // Who asked may be gone.
                    let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
                }
            }
        });
        NameServer { address, names, asked, serving: serving.abort_handle() }
    }

    /// What becomes of questions from now on.
    pub(crate) fn answers(&self, names: Names) {
        self.names.send_replace(names);
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(names: Names, question: &Message) -> Option<Message> {
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    match names {
        Names::Silent => return None,
        Names::Fail => answer.metadata.response_code = ResponseCode::ServFail,
        Names::Missing => answer.metadata.response_code = ResponseCode::NXDomain,
        Names::Stand(address) if query.query_type() == RecordType::A => {
            answer.add_answer(Record::from_rdata(query.name().clone(), 0, RData::A(address.into())));
        }
        // There are no others.
        Names::Stand(_) => {}
    }
    answer.add_query(query);
    Some(answer)
}
