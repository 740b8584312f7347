//! A real Apache Kafka for the tests: one node in KRaft mode, on loopback, on free ports, its data in a temporary folder.
//!
//! How it is fetched and configured stands in `broker.sh`, which `make demo-kafka` uses too. A test that cannot have a
//! broker fails and says why; nothing here skips.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};

/// Maven may have to fetch the jars first.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a test wants to be different from `broker.sh`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// a second listener, SASL over TLS: [`Broker::secure_bootstrap`]
    pub secure: bool,
    /// further lines of server.properties, such as `message.max.bytes=20000000`
    pub properties: Vec<String>,
}

/// A broker of one's own; it and its data are gone when this is dropped, or when the test process dies.
pub struct Broker {
    dir: tempfile::TempDir,
    port: u16,
    controller: u16,
    secure: u16,
    options: Options,
    child: Mutex<Option<Child>>,
}

/// Who the secure listener lets in by SCRAM, and the password.
pub const ALICE: (&str, &str) = ("alice", "alice-secret");
/// Who it lets in by PLAIN.
pub const BOB: (&str, &str) = ("bob", "bob-secret");

static SHARED: OnceLock<Broker> = OnceLock::new();

/// The broker that tests share, started by the first that asks; each test uses topics of its own, see [`topic`].
pub fn shared() -> &'static Broker {
    SHARED.get_or_init(|| {
        extern "C" fn teardown() {
            if let Some(broker) = SHARED.get() {
                broker.kill9();
                let _ = std::fs::remove_dir_all(broker.dir.path());
            }
        }
        // SAFETY: the function is 'static, takes nothing and does not unwind: everything in it returns results.
        // A static is never dropped, so this is the only way to clean up after it
        unsafe { libc::atexit(teardown) };
        // compaction every now and then instead of every 15 s
        Broker::start(Options { secure: true, properties: vec!["log.cleaner.backoff.ms=100".to_owned()] })
    })
}

/// A name for a topic that no other test has.
pub fn topic(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Broker {
    /// Starts a broker and returns when it serves.
    pub fn start(options: Options) -> Broker {
        let dir = tempfile::Builder::new().prefix("sluice-broker-").tempdir().expect("a temporary folder");
        let [port, controller, secure] = free_ports();
        let broker = Broker { dir, port, controller, secure, options, child: Mutex::new(None) };
        broker.launch();
        broker
    }

    /// What `bootstrap.servers` takes.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same for the listener that speaks SASL over TLS.
    pub fn secure_bootstrap(&self) -> String {
        assert!(self.options.secure, "this broker was not asked for a secure listener");
        format!("127.0.0.1:{}", self.secure)
    }

    /// The authority that signed the secure listener's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("tls/ca.pem")
    }

    /// Asks it to stop, and returns when it has; clients are told.
    pub fn stop(&self) {
        self.end(libc::SIGTERM);
    }

    /// Ends it as a power cut would, as far as its process goes.
    pub fn kill9(&self) {
        self.end(libc::SIGKILL);
    }

    /// Starts it again after [`Broker::stop`] or [`Broker::kill9`]: same address, same data.
    pub fn restart(&self) {
        self.kill9();
        self.launch();
    }

    fn end(&self, signal: i32) {
        let Some(mut child) = self.child.lock().expect("no panic holds the lock").take() else { return };
        // SAFETY: kill takes no pointers, and the pid is ours until `wait` below
        unsafe { libc::kill(child.id() as i32, signal) };
        child.wait().expect("the broker is our child");
    }

    fn launch(&self) {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/broker.sh"));
        command.arg("exec").arg(self.dir.path());
        command.args([self.port.to_string(), self.controller.to_string()]);
        command.args(self.options.secure.then(|| format!("sasl_ssl={}", self.secure)));
        command.args(&self.options.properties);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        die_with_parent(&mut command);
        let (ready, events) = mpsc::channel();
        std::thread::spawn(move || follow(command, ready));
        let mut log = Vec::new();
        loop {
            match events.recv_timeout(PATIENCE) {
                Ok(Event::Spawned(child)) => *self.child.lock().expect("no panic holds the lock") = Some(child),
                Ok(Event::Ready) => return,
                Ok(Event::Line(line)) => log.push(line),
                Err(why) => panic!("Kafka did not start ({why}); its log ends with\n{}", log.join("\n")),
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill9();
    }
}

enum Event {
    Spawned(Child),
    Line(String),
    Ready,
}

/// Runs the broker and reads its log to the end, for it must never wait for a full pipe.
///
/// The thread that spawns must live as long as the broker: the signal of [`die_with_parent`] is sent when that
/// *thread* ends, and the thread of the test that came first may end long before the others.
fn follow(mut command: Command, events: Sender<Event>) {
    let mut child = command.spawn().expect("tests/broker.sh can be run");
    let log = child.stdout.take().expect("it is piped");
    let _ = events.send(Event::Spawned(child));
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let ready = line.contains("Kafka Server started");
        let _ = events.send(Event::Line(line)); // nobody listens once it is ready
        if ready {
            let _ = events.send(Event::Ready);
        }
    }
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: prctl with these arguments is async-signal-safe and touches no memory of ours
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// Ports where nothing listens, below 32768: above, any outgoing connection may take them.
fn free_ports() -> [u16; 3] {
    // test processes that run at once begin at different places
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id()));
    let mut ports = (0..12_000)
        .map(|_| 20_000 + (next.fetch_add(1, Ordering::Relaxed) % 12_000) as u16)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    [(); 3].map(|()| ports.next().expect("a free port"))
}

#[tokio::test]
async fn a_broker_keeps_its_records_when_it_ends_and_starts_again() {
    let broker = Broker::start(Options { secure: true, properties: vec!["message.max.bytes=2000000".to_owned()] });
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap()).set("message.max.bytes", "2000000");
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let kept = NewTopic::new("kept", 1, TopicReplication::Fixed(1));
    admin.create_topics(&[kept], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let producer: FutureProducer = config.create().unwrap();
    let large = vec![b'x'; 1_500_000];
    let record = FutureRecord::<(), _>::to("kept").payload(&large);
    producer.send(record, Duration::from_secs(30)).await.unwrap();

    for end in [Broker::kill9, Broker::stop] {
        end(&broker);
        broker.restart();
        let reader: BaseConsumer = config.create().unwrap();
        assert_eq!(reader.fetch_watermarks("kept", 0, Duration::from_secs(30)).unwrap(), (0, 1));
        // users and certificate are as they were
        for (mechanism, (user, password)) in [("SCRAM-SHA-256", ALICE), ("SCRAM-SHA-512", ALICE), ("PLAIN", BOB)] {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", broker.secure_bootstrap()).set("security.protocol", "sasl_ssl");
            config.set("ssl.ca.location", broker.ca().to_str().unwrap()).set("sasl.mechanism", mechanism);
            let reader: BaseConsumer =
                config.set("sasl.username", user).set("sasl.password", password).create().unwrap();
            assert_eq!(reader.fetch_watermarks("kept", 0, Duration::from_secs(30)).unwrap(), (0, 1), "{mechanism}");
        }
    }
}

#[test]
fn the_shared_broker_serves_everyone() {
    assert_ne!(topic("t"), topic("t"));
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", shared().bootstrap()).create().unwrap();
    let metadata = reader.fetch_metadata(None, Duration::from_secs(30)).unwrap();
    assert_eq!(metadata.brokers().len(), 1);
}
