//! TCP for ureq, with a bound on what lies unread.
//!
//! ureq's own connector would do, but that it gives no access to its socket: what the kernel has received
//! when the process dies was sent for nothing, and left alone its buffer grows to 6 MiB and more. Here,
//! too, is what ureq asks of a connector and need not be asked here: `Agent::shutdown`, which nobody calls,
//! so that no connection is registered for it.

use super::network::Network;
use crate::error::{Error, Kind};
use crate::sys;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use ureq::Timeout;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// The most that the kernel holds of a connection, unread, in bytes as it counts them: an interruption costs
/// this, the 3 MiB of a layer that may not be durable, and what is in the buffers between (160 KiB), together
/// less than 4 MiB. The price is speed where the way is long: half of it in each round trip, 2.6 MB/s at 100 ms. By
/// the default of `net.core.rmem_max` it is 416 KiB, of which that is 208 KiB and 2.1 MB/s.
const UNREAD_MAX: i32 = 512 << 10;
/// The least time that an address gets to answer, however many were tried before.
const ADDRESS_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// Room for what TLS sends, in bytes.
const BELOW_TLS: usize = 4 << 10;

/// How much a server may send, in bytes, before a byte of the answer comes that somebody reads: heads, interim
/// answers, trailers, TLS records without content. The input buffer bounds a head (16 KiB), ureq its fields (128) and a
/// chunk's length and extension (20 bytes); nobody how many interim answers there are, or trailers.
const FRUITLESS_MAX: usize = 256 << 10;

/// What was received since the last byte that somebody could read.
#[derive(Debug, Default)]
pub(super) struct Fruitless(AtomicUsize);

impl Fruitless {
    /// There was something, or it begins anew.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) -> Result<(), ureq::Error> {
        match self.0.fetch_add(bytes, Ordering::Relaxed) + bytes > FRUITLESS_MAX {
            false => Ok(()),
            true => Err(ureq::Error::Other(Box::new(
                Error::new(Kind::Network, "the server sends and sends, and nothing of it is an answer")
                    .hint("edgepull's limit FRUITLESS_MAX, 256 KiB"),
            ))),
        }
    }
}

/// Connects to the first address that answers.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    /// How fast it may be.
    pub(super) network: Arc<Network>,
    /// Shared by all connections of one client, of which one is read at a time.
    pub(super) fruitless: Arc<Fruitless>,
}

impl Connector for Tcp {
    type Out = TcpTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<TcpTransport>, ureq::Error> {
        let stream = connect(&details.addrs, details.timeout)?;
        if let Err(error) = sys::limit_receive_buffer(stream.as_fd(), UNREAD_MAX) {
            log::debug!("the receive buffer grows as it likes: {error}");
        }
        stream.set_nodelay(details.config.no_delay())?;
        // TLS has a buffer of its own above, and sends what it makes of it in pieces of any size.
        let output = details.config.output_buffer_size();
        let output = if details.needs_tls() { output.min(BELOW_TLS) } else { output };
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), output);
        Ok(Some(TcpTransport {
            stream,
            network: self.network.clone(),
            fruitless: self.fruitless.clone(),
            buffers,
            reads: Limit { set: None, apply: TcpStream::set_read_timeout },
            writes: Limit { set: None, apply: TcpStream::set_write_timeout },
        }))
    }
}

/// Each address gets half of the time that is left and the last one all of it, as the first is the one that
/// the system prefers. Fails as the last of them did.
fn connect(addresses: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, ureq::Error> {
    let started = Instant::now();
    let limit = timeout.not_zero().map(|limit| *limit);
    let mut failed = ureq::Error::HostNotFound;
    for (index, address) in addresses.iter().enumerate() {
        let halves = if index + 1 == addresses.len() { 1 } else { 2 };
        let share = limit.map(|limit| limit.saturating_sub(started.elapsed()) / halves);
        let result = match share {
            Some(share) => TcpStream::connect_timeout(address, share.max(ADDRESS_TIMEOUT_MIN)),
            None => TcpStream::connect(address),
        };
        failed = match result {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
            Err(error) => error.into(),
        };
        log::debug!("{address}: {failed}");
    }
    Err(failed)
}

/// Where the next input goes. All of the buffer is taken only by a head, which ureq takes whole.
pub(super) fn room(buffers: &mut LazyBuffers) -> Result<&mut [u8], ureq::Error> {
    match buffers.input_append_buf() {
        [] => Err(ureq::Error::LargeResponseHeader(0, 0)),
        room => Ok(room),
    }
}

/// One connection.
pub(super) struct TcpTransport {
    stream: TcpStream,
    network: Arc<Network>,
    fruitless: Arc<Fruitless>,
    buffers: LazyBuffers,
    reads: Limit,
    writes: Limit,
}

impl std::fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TcpTransport")
    }
}

/// How long a read, or a write, may wait. What the kernel has been told is kept: it is told changes only.
struct Limit {
    set: Option<Duration>,
    apply: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
}

impl Limit {
    /// Does one thing with the socket, again if it is interrupted (where a socket has a time-out, Linux leaves
    /// that to the caller even without a signal handler: signal(7)), but only within the same time.
    fn run(
        &mut self,
        stream: &TcpStream,
        timeout: NextTimeout,
        once: &mut dyn FnMut() -> io::Result<usize>,
    ) -> Result<usize, ureq::Error> {
        let started = Instant::now();
        let limit = (!timeout.after.is_not_happening()).then_some(*timeout.after);
        let mut left = limit;
        loop {
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ureq::Error::Timeout(timeout.reason));
            }
            if self.set != left {
                (self.apply)(stream, left)?;
                self.set = left;
            }
            match once() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
                }
                // EAGAIN by the socket's time-out; ETIMEDOUT when TCP itself has given up.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(ureq::Error::Timeout(timeout.reason));
                }
                other => return Ok(other?),
            }
        }
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut rest = &self.buffers.output()[..amount];
        let mut stream = &self.stream;
        while !rest.is_empty() {
            let most = match timeout.reason {
                Timeout::Connect => rest.len(),
                _ => self.network.allowance(rest.len()),
            };
            let written =
                self.writes.run(&self.stream, timeout.for_write(), &mut || stream.write(&rest[..most]))?;
            self.network.spent(written);
            rest = &rest[written..];
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let input = room(&mut self.buffers)?;
        // A connection is made as fast as can be: that has a time-out of its own.
        let most = match timeout.reason {
            Timeout::Connect => input.len(),
            _ => self.network.allowance(input.len()),
        };
        let (input, mut stream) = (&mut input[..most], &self.stream);
        let read = self.reads.run(&self.stream, timeout.for_read(), &mut || stream.read(input))?;
        self.network.spent(read);
        self.fruitless.add(read)?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Between two requests there is nothing to read: neither an end nor a byte that nobody asked for.
    fn is_open(&mut self) -> bool {
        let probe = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        probe().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

#[cfg(test)]
#[path = "../../../tests/source/port.rs"]
mod port;

#[cfg(test)]
mod tests {
    use super::port::bound;
    use super::*;
    use std::net::TcpListener;
    use std::sync::atomic::AtomicBool;
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
        Tcp::default().connect(&details, None).unwrap().unwrap()
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
            ours.fruitless.reset();
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
        let limits = NextTimeout {
            per_read: Some(SHORT.into()),
            per_write: Some(SHORT.into()),
            ..NextTimeout::default()
        };
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
        let interrupted = limit.run(&ours.stream, within(SHORT), &mut || {
            calls += 1;
            thread::sleep(SHORT / 4);
            Err(ErrorKind::Interrupted.into())
        });
        assert!(is_timeout(&interrupted, Timeout::Connect));
        assert!((1..=4).contains(&calls), "{calls}");
        let mut outcomes = [Ok(3), Err(ErrorKind::Interrupted.into())].into_iter().rev();
        assert_eq!(limit.run(&ours.stream, within(LONG), &mut || outcomes.next().unwrap()).unwrap(), 3);
        // The kernel knows what was left.
        assert!(ours.stream.read_timeout().unwrap().unwrap() <= LONG);
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
}
