//! A broker at the end of a bad line: every byte goes through here, late, slowly, or for a while not at all.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::broker::{Broker, Options};

/// A broker that can be reached through the line only.
pub struct Distant {
    pub broker: Broker,
    port: u16,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

/// How bad it is.
#[derive(Clone, Copy, Default)]
struct State {
    is_stalled: bool,
    /// what each read waits before it is passed on
    delay: Duration,
    /// bytes of one read, which with the delay bound the speed
    piece: usize,
}

impl Distant {
    pub fn start() -> Distant {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        // the last line of a name counts
        let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
        let broker = Broker::start(Options { properties: vec![advertised], ..Options::default() });
        let line = Arc::<Line>::default();
        line.set(|state| state.piece = 1 << 16);
        let (end, accepted) = (broker.bootstrap(), line.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // while the broker is down the connection ends at once, as one to a dead port would
                let Ok(far) = TcpStream::connect(&end) else { continue };
                let copies = [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())];
                for (from, to) in copies {
                    let (from, to, line) = (from.expect("a socket"), to.expect("a socket"), accepted.clone());
                    std::thread::spawn(move || line.carry(from, to));
                }
            }
        });
        Distant { broker, port, line }
    }

    /// What `bootstrap.servers` takes.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on each read of at most so many bytes waits so long.
    pub fn slow(&self, piece: usize, delay: Duration) {
        self.line.set(|state| (state.piece, state.delay) = (piece, delay));
    }

    /// Nothing passes any more, and nobody is told.
    pub fn stall(&self) {
        self.line.set(|state| state.is_stalled = true);
    }

    pub fn resume(&self) {
        self.line.set(|state| state.is_stalled = false);
    }
}

impl Line {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no panic holds the lock"));
        self.changed.notify_all();
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let piece = self.state.lock().expect("no panic holds the lock").piece;
            let Ok(read @ 1..) = from.read(&mut buffer[..piece]) else { break };
            let state = self.state.lock().expect("no panic holds the lock");
            let delay = state.delay;
            // nothing ends this wait early: the delay is what it is for
            let late = self.changed.wait_timeout_while(state, delay, |_| true).expect("no panic holds the lock").0;
            drop(self.changed.wait_while(late, |state| state.is_stalled).expect("no panic holds the lock"));
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
