//! Tests connections that stall, drip, are interrupted, or lead where they may not.

use super::port::bound;
use super::*;
use crate::source::Lowest;
use crate::source::registry::pace::{Pace, TooSlow};
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use ureq::config::Config;
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::time;

fn within(limit: Duration) -> NextTimeout {
    NextTimeout { after: limit.into(), reason: Timeout::Connect, ..NextTimeout::default() }
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

fn transport(address: SocketAddr) -> TcpTransport {
    let resolver = DefaultResolver::default();
    let mut addrs = resolver.empty();
    addrs.push(address);
    let details = ConnectionDetails {
        uri: &"http://localhost/".parse().unwrap(),
        addrs,
        config: &Config::default(),
        request_level: false,
        resolver: &resolver,
        now: time::Instant::now(),
        timeout: within(LONG),
        current_time: Arc::new(time::Instant::now),
        run_connector: Arc::new(|_| unreachable!()),
        register_shutdown: Arc::new(|_| Ok(())),
    };
    tcp(Lowest::default()).connect(&details, None).unwrap().unwrap()
}

fn tcp(lowest: Lowest) -> Tcp {
    let exchange = Arc::new(Exchange::new("r.example".into(), Pace::new(lowest)));
    Tcp { network: Arc::default(), exchange, proxies: Arc::default() }
}

fn pair() -> (TcpTransport, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = transport(listener.local_addr().unwrap());
    (ours, listener.accept().unwrap().0)
}

fn is_timeout<T>(result: &Result<T, ureq::Error>, reason: Timeout) -> bool {
    matches!(result, Err(ureq::Error::Timeout(what)) if *what == reason)
}

#[test]
fn what_lies_unread_is_bounded_after_a_fast_download() {
    let (mut ours, mut theirs) = pair();
    let resting = Arc::new(AtomicBool::new(false));
    let at_rest = resting.clone();
    theirs.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let server = thread::spawn(move || {
        let mut blocked = 0;
        while blocked < 2 {
            match theirs.write(&[7; 64 << 10]) {
                Ok(_) => blocked = 0,
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                Err(_) if at_rest.load(Ordering::SeqCst) => blocked += 1,
                Err(_) => {}
            }
        }
        theirs
    });
    // The kernel lets the buffers of a connection grow that is read as fast as it comes.
    let mut read = 0;
    while read < 64 << 20 {
        assert!(ours.await_input(within(LONG)).unwrap());
        ours.exchange.reads_on();
        let amount = ours.buffers.input().len();
        ours.buffers.input_consume(amount);
        read += amount;
    }
    resting.store(true, Ordering::SeqCst);
    let _theirs = server.join().unwrap();
    let unread = rustix::io::ioctl_fionread(&ours.stream).unwrap();
    // A segment of the loopback device may go beyond.
    assert!((64 << 10..=UNREAD_MAX as u64 + (64 << 10)).contains(&unread), "{unread}");
}

#[test]
fn the_next_address_is_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let refusing = bound();
    let refused = refusing.local_addr().unwrap();
    // A multicast address: ENETUNREACH, EADDRNOTAVAIL or EINVAL, as the kernel is made.
    let nowhere: SocketAddr = "[ff02::1]:9".parse().unwrap();
    let stream = connect(&[refused, nowhere, there], within(LONG)).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), there);
    let failed = connect(&[nowhere, refused], within(LONG));
    assert!(
        matches!(&failed, Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::ConnectionRefused),
        "{failed:?}"
    );
}

#[test]
fn a_silent_address_leaves_time_for_the_next() {
    let silent = bound();
    // One whose queue is full drops what comes.
    rustix::net::listen(&silent, 0).unwrap();
    let full = silent.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&full, Duration::from_millis(200)) {
        queue.push(stream);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let stream = connect(&[full, there], within(Duration::from_secs(2))).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), there);
    let failed = connect(&[there, full][1..], within(SHORT));
    assert!(is_timeout(&failed, Timeout::Connect), "{failed:?}");
}

#[test]
fn a_peer_that_is_silent_or_takes_nothing_times_out() {
    let (mut ours, _theirs) = pair();
    let limits =
        NextTimeout { per_read: Some(SHORT.into()), per_write: Some(SHORT.into()), ..NextTimeout::default() };
    assert!(is_timeout(&ours.await_input(limits), Timeout::PerRead));
    let full = loop {
        let amount = ours.buffers.output().len();
        if let Err(full) = ours.transmit_output(amount, limits) {
            break full;
        }
    };
    assert!(is_timeout::<()>(&Err(full), Timeout::PerWrite));
    assert!(is_timeout(&ours.await_input(within(Duration::ZERO)), Timeout::Connect));
}

#[test]
fn a_limited_rate_is_no_stall() {
    let (mut ours, mut theirs) = pair();
    // What was read before costs longer than a read may wait; what comes next is there already.
    ours.network = Arc::new(Network::new(Some(1 << 10), Duration::ZERO));
    ours.network.spent(1 << 10);
    theirs.write_all(b"x").unwrap();
    ours.stream.peek(&mut [0]).unwrap();
    let limits = NextTimeout { per_read: Some(SHORT.into()), ..NextTimeout::default() };
    assert!(ours.await_input(limits).unwrap());
}

#[test]
fn an_interrupted_read_goes_on_in_the_time_that_is_left() {
    let (ours, _theirs) = pair();
    let mut limit = ours.reads;
    let mut calls = 0;
    let interrupted = limit.run(&ours.stream, &ours.exchange, within(SHORT), &mut |wait| {
        if wait == Wait::Never {
            return Err(ErrorKind::WouldBlock.into());
        }
        calls += 1;
        thread::sleep(SHORT / 4);
        Err(ErrorKind::Interrupted.into())
    });
    assert!(is_timeout(&interrupted, Timeout::Connect));
    assert!((1..=4).contains(&calls), "{calls}");
    let connecting = ours.exchange.waited_in_all();
    let mut outcomes =
        [Err(ErrorKind::WouldBlock.into()), Err(ErrorKind::Interrupted.into()), Ok(3)].into_iter();
    let read =
        limit.run(&ours.stream, &ours.exchange, within(LONG), &mut |_| outcomes.next().unwrap()).unwrap();
    assert_eq!(read, 3);
    assert_eq!(ours.exchange.waited_in_all(), connecting, "nobody was waited for");
}

#[test]
fn what_came_while_the_process_was_stopped_is_read_however_late() {
    let (ours, _theirs) = pair();
    let (mut limit, mut there) = (ours.reads, false);
    let before = ours.exchange.waited_in_all();
    let read = limit.run(&ours.stream, &ours.exchange, within(SHORT), &mut |wait| match (wait, there) {
        (Wait::Never, false) => Err(ErrorKind::WouldBlock.into()),
        (Wait::Never, true) => Ok(5),
        // Stopped for longer than the time-out, and going on.
        (Wait::AsSet, _) => {
            there = true;
            thread::sleep(2 * SHORT);
            Err(ErrorKind::Interrupted.into())
        }
    });
    assert_eq!(read.unwrap(), 5);
    assert_eq!(ours.exchange.waited_in_all(), before, "and nobody was slow");
}

fn is_too_slow<T>(result: &Result<T, ureq::Error>) -> bool {
    matches!(result, Err(ureq::Error::Other(other)) if other.is::<TooSlow>())
}

#[test]
fn only_what_is_waited_for_is_slow() {
    let (mut ours, mut theirs) = pair();
    // Whoever has to be waited for at all is too slow.
    ours.exchange = tcp(Lowest { rate: u64::MAX, patience: Duration::ZERO }).exchange;
    theirs.write_all(b"abc").unwrap();
    ours.stream.peek(&mut [0]).unwrap();
    // A disk was busy meanwhile.
    thread::sleep(SHORT);
    assert!(ours.await_input(within(LONG)).unwrap());
    let waits = ours.await_input(within(LONG));
    assert!(is_too_slow(&waits), "{waits:?}");
    // Who takes nothing of what is sent is no better.
    let full = loop {
        let amount = ours.buffers.output().len();
        if let Err(full) = ours.transmit_output(amount, within(LONG)) {
            break full;
        }
    };
    assert!(is_too_slow::<()>(&Err(full)));
}

#[test]
fn who_drips_is_given_up_in_the_midst_of_a_wait() {
    let (mut ours, theirs) = pair();
    ours.exchange = tcp(Lowest { rate: 1 << 30, patience: SHORT }).exchange;
    let silent = ours.await_input(within(LONG));
    assert!(is_too_slow(&silent), "{silent:?}");
    assert!(ours.exchange.waited_in_all() >= SHORT);
    drop(theirs);
}

#[test]
fn an_open_connection_is_used_only_for_who_may_be_reached() {
    let (mut ours, _theirs) = pair();
    assert_eq!(ours.peer, near::range(ours.stream.peer_addr().unwrap().ip()));
    ours.exchange.allow(0);
    let refused = ours.transmit_output(1, within(LONG)).unwrap_err().to_string();
    assert!(refused.contains("r.example refers to 127.0.0.1, which only this board can reach"), "{refused}");
    ours.exchange.allow(ours.peer);
    ours.transmit_output(1, within(LONG)).unwrap();
}

#[test]
fn a_connection_is_open_while_nothing_comes() {
    let (mut ours, mut theirs) = pair();
    assert!(ours.is_open());
    theirs.write_all(b"x").unwrap();
    assert!(ours.await_input(within(LONG)).unwrap());
    assert!(ours.is_open());
    drop(theirs);
    assert!(!ours.await_input(within(LONG)).unwrap());
    assert!(!ours.is_open());
    let (mut ours, mut theirs) = pair();
    theirs.write_all(b"unasked").unwrap();
    ours.stream.peek(&mut [0]).unwrap();
    assert!(!ours.is_open());
}
