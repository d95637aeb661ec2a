//! TCP for ureq, with a bound on what lies unread.
//!
//! ureq's own connector would do, but that it gives no access to its socket: what the kernel has received
//! when the process dies was sent for nothing, and left alone its buffer grows to 6 MiB and more. Here,
//! too, is what ureq asks of a connector and need not be asked here: `Agent::shutdown`, which nobody calls,
//! so that no connection is registered for it.

use super::exchange::Exchange;
use super::near::{self, Ranges};
use super::network::Network;
use super::proxy::Proxies;
use crate::sys::{self, Wait};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
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

/// Connects to the first address that answers.
#[derive(Debug)]
pub(super) struct Tcp {
    /// How fast it may be.
    pub(super) network: Arc<Network>,
    /// Is shared by all connections of one client, of which one is used at a time.
    pub(super) exchange: Arc<Exchange>,
    /// Says for which URLs the socket leads to a proxy, and not to the peer.
    pub(super) proxies: Arc<Proxies>,
}

impl Connector for Tcp {
    type Out = TcpTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<TcpTransport>, ureq::Error> {
        let started = Instant::now();
        let connected = connect(&details.addrs, details.timeout);
        self.exchange.waited(started.elapsed());
        let stream = connected?;
        let proxy = self.proxies.of(details.uri).map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let peer = match proxy {
            None => near::range(stream.peer_addr()?.ip()),
            Some(_) => near::range_by_name(details.uri),
        };
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
            peer,
            network: self.network.clone(),
            exchange: self.exchange.clone(),
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
    /// Holds the near ranges that it leads to, as far as that can be known.
    peer: Ranges,
    network: Arc<Network>,
    exchange: Arc<Exchange>,
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
    /// Does one thing with the socket, and notes the time for which the socket had to be waited for. Neither that nor
    /// the time-out counts for what is there already when this process comes to it, however late that is. It does the
    /// thing again if it is interrupted: where a socket has a time-out, Linux leaves that to the caller even without
    /// a signal handler, when a process that was stopped goes on (signal(7)). How much of an interrupted time was
    /// waiting is not known, and none of it counts.
    fn run(
        &mut self,
        stream: &TcpStream,
        exchange: &Exchange,
        timeout: NextTimeout,
        once: &mut dyn FnMut(Wait) -> io::Result<usize>,
    ) -> Result<usize, ureq::Error> {
        let mut left = (!timeout.after.is_not_happening()).then_some(*timeout.after);
        loop {
            match once(Wait::Never) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return self.done(other, timeout),
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ureq::Error::Timeout(timeout.reason));
            }
            let patience = exchange.patience().map_err(|slow| ureq::Error::Other(Box::new(slow)))?;
            let most = left.map_or(patience, |left| left.min(patience));
            if self.set != Some(most) {
                (self.apply)(stream, Some(most))?;
                self.set = Some(most);
            }
            let started = Instant::now();
            let result = once(Wait::AsSet);
            let waited = started.elapsed();
            left = left.map(|left| left.saturating_sub(waited));
            match result {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // By the socket's time-out.
                Err(error) if error.kind() == ErrorKind::WouldBlock => exchange.waited(waited.min(most)),
                other => {
                    exchange.waited(waited.min(most));
                    return self.done(other, timeout);
                }
            }
        }
    }

    fn done(&self, result: io::Result<usize>, timeout: NextTimeout) -> Result<usize, ureq::Error> {
        match result {
            // TCP itself has given up.
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(ureq::Error::Timeout(timeout.reason)),
            other => Ok(other?),
        }
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        // An open connection is used again for whoever is called so, now, too.
        if !self.exchange.may_reach(self.peer) {
            let peer = self.stream.peer_addr();
            return Err(self
                .exchange
                .refusal(peer.map_or_else(|_| "a peer".into(), |peer| peer.ip().to_string())));
        }
        let mut rest = &self.buffers.output()[..amount];
        let (stream, exchange) = (&self.stream, &*self.exchange);
        while !rest.is_empty() {
            let most = match timeout.reason {
                Timeout::Connect => rest.len(),
                _ => self.network.allowance(rest.len()),
            };
            let written = self.writes.run(stream, exchange, timeout.for_write(), &mut |wait| {
                sys::send(stream.as_fd(), &rest[..most], wait)
            })?;
            self.network.spent(written);
            exchange.came(written);
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
        let (input, stream) = (&mut input[..most], &self.stream);
        let read = self.reads.run(stream, &self.exchange, timeout.for_read(), &mut |wait| {
            sys::receive(stream.as_fd(), input, wait)
        })?;
        self.network.spent(read);
        self.exchange.received(self.peer, read)?;
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
pub(super) mod port;

#[cfg(test)]
mod tests;
