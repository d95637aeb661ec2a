//! Passes on what the confined process prints. Its standard streams are pipes to its parent, which writes what comes
//! from them to its own: so it reads no terminal, changes no log, and gives no terminal orders.

use crate::sys;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Limits how many bytes are taken at a time.
const CHUNK: usize = 4096;
/// Clears a line of a terminal before another one is written to it; it is the one order to a terminal that is passed
/// on.
const CLEAR: &str = "\r\x1b[K";

/// Holds both ends of the two streams' pipes, before each process lets go of the other's.
pub(super) struct Pipes {
    output: (PipeReader, PipeWriter),
    errors: (PipeReader, PipeWriter),
}

impl Pipes {
    pub(super) fn new() -> io::Result<Pipes> {
        Ok(Pipes { output: io::pipe()?, errors: io::pipe()? })
    }

    /// Takes the confined process's ends.
    pub(super) fn theirs(self) -> [OwnedFd; 2] {
        [self.output.1, self.errors.1].map(OwnedFd::from)
    }

    /// Takes the parent's ends. If `raw` is set, standard output is passed on as it is.
    pub(super) fn ours(self, raw: bool) -> Output {
        let shown = Readable { orders: io::stderr().is_terminal(), held: Vec::new() };
        let filter = (!raw).then(|| Readable { orders: false, held: Vec::new() });
        Output {
            output: Stream { pipe: Some(self.output.0), filter },
            errors: Stream { pipe: Some(self.errors.0), filter: Some(shown) },
            failed: None,
        }
    }
}

/// Holds the parent's ends of the streams that are passed on.
pub(super) struct Output {
    output: Stream,
    errors: Stream,
    /// Holds the error with which standard output could not be written.
    failed: Option<io::Error>,
}

impl Output {
    /// Passes on what comes until only `line` has something to read: whatever was printed before a message was sent
    /// is printed before it is read.
    pub(super) fn pass_on_until(&mut self, line: BorrowedFd<'_>) -> io::Result<()> {
        while self.pass_on(Some(line))? {}
        Ok(())
    }

    /// Passes on all that is left, when the confined process says no more. Returns an error if not all of it could be
    /// written to standard output.
    pub(super) fn end(mut self) -> io::Result<()> {
        while self.output.pipe.is_some() || self.errors.pipe.is_some() {
            self.pass_on(None)?;
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Waits, and passes on what has come. Returns whether there was anything.
    fn pass_on(&mut self, line: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let pipes = [&self.output, &self.errors].map(|stream| stream.pipe.as_ref().map(AsFd::as_fd));
        let [output, errors, _] = sys::wait_readable([pipes[0], pipes[1], line])?;
        if output && let Err(error) = self.output.pass_on(&mut io::stdout().lock()) {
            // Whoever prints hears of it.
            self.output.pipe = None;
            self.failed = Some(error);
        }
        // A log that cannot be written ends nothing.
        if errors && self.errors.pass_on(&mut io::stderr().lock()).is_err() {
            self.errors.pipe = None;
        }
        Ok(output || errors)
    }
}

/// Holds the parent's end of one stream.
struct Stream {
    /// Holds the pipe until its end.
    pipe: Option<PipeReader>,
    /// Makes readable text of what comes; `None` passes on every byte.
    filter: Option<Readable>,
}

impl Stream {
    fn pass_on(&mut self, to: &mut dyn Write) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut chunk = [0; CHUNK];
        let read = match pipe.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        if read == 0 {
            self.pipe = None;
        }
        match &mut self.filter {
            Some(filter) => to.write_all(filter.text(&chunk[..read]).as_bytes())?,
            None => to.write_all(&chunk[..read])?,
        }
        to.flush()
    }
}

/// Makes readable text of bytes that come in chunks: control characters other than line ends and tabs are escaped,
/// and what is not UTF-8 is replaced.
struct Readable {
    /// Is set if [`CLEAR`] is passed on.
    orders: bool,
    /// Holds the beginning of a character, or of [`CLEAR`], until the rest comes.
    held: Vec<u8>,
}

impl Readable {
    /// Returns the text of the bytes that have come; an empty `chunk` is the end of them.
    fn text(&mut self, chunk: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(chunk);
        if !chunk.is_empty() {
            self.held = bytes.split_off(bytes.len() - self.begun(&bytes));
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut readable = String::with_capacity(text.len());
        let mut rest = &*text;
        while let Some(character) = rest.chars().next() {
            if self.orders
                && let Some(after) = rest.strip_prefix(CLEAR)
            {
                readable.push_str(CLEAR);
                rest = after;
                continue;
            }
            match character {
                '\n' | '\t' => readable.push(character),
                control if control.is_control() => readable.extend(control.escape_default()),
                other => readable.push(other),
            }
            rest = &rest[character.len_utf8()..];
        }
        readable
    }

    /// Counts the bytes at the end of `bytes` that are the beginning of a character, or of [`CLEAR`].
    fn begun(&self, bytes: &[u8]) -> usize {
        let cut = (1..=3.min(bytes.len())).find(|length| {
            let tail = &bytes[bytes.len() - length..];
            let error = std::str::from_utf8(tail).err();
            tail[0] >= 0xc0 && error.is_some_and(|error| error.error_len().is_none())
        });
        let order = || (1..CLEAR.len()).rev().find(|length| bytes.ends_with(&CLEAR.as_bytes()[..*length]));
        cut.or_else(|| order().filter(|_| self.orders)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_and_no_orders_wherever_the_bytes_are_cut() {
        let sent = "a\x1b]0;title\x07é\u{9b}2J😀\r\x1b[Kb\tc\r\x1b[\n".as_bytes();
        let text = "a\\u{1b}]0;title\\u{7}é\\u{9b}2J😀";
        for (orders, rest) in [(true, "\r\x1b[Kb\tc\\r\\u{1b}[\n"), (false, "\\r\\u{1b}[Kb\tc\\r\\u{1b}[\n")]
        {
            for size in 1..=sent.len() {
                let mut readable = Readable { orders, held: Vec::new() };
                let mut shown: String = sent.chunks(size).map(|chunk| readable.text(chunk)).collect();
                shown.push_str(&readable.text(b""));
                assert_eq!(shown, format!("{text}{rest}"), "{size} bytes at a time");
            }
        }
        let mut readable = Readable { orders: true, held: Vec::new() };
        assert_eq!(readable.text(b"\xff\xc3\x28\xf0\x9f"), "\u{fffd}\u{fffd}(");
        assert_eq!(readable.text(b""), "\u{fffd}", "what never ends is shown at the end");
    }
}
