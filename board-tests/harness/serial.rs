//! The serial line of a booted machine: lines that come, a line that goes, and all of it kept for the
//! day on which a test fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Both directions of a serial line.
pub struct Serial {
    input: Box<dyn Write + Send>,
    lines: Receiver<String>,
    log: Log,
}

/// Why no line came.
#[derive(Debug, PartialEq, Eq)]
pub enum Silence {
    /// The other end is gone.
    Ended,
    /// The time was up.
    TimeUp,
}

impl Serial {
    /// Reads `output`, and into the log also the emulator's own `complaints`, from threads of their own,
    /// so that the machine never waits for a test.
    pub fn over(
        input: impl Write + Send + 'static,
        output: impl Read + Send + 'static,
        complaints: impl Read + Send + 'static,
    ) -> Serial {
        let (sender, lines) = channel();
        let log = Log { begin: Instant::now(), text: Arc::default() };
        let (own, emulators) = (log.clone(), log.clone());
        // A line that nobody waits for any more is no failure: the test is over.
        std::thread::spawn(move || own.follow(output, |line| drop(sender.send(line))));
        std::thread::spawn(move || emulators.follow(complaints, drop));
        Serial { input: Box::new(input), lines, log }
    }

    /// The next line, without its end; waits until `limit`.
    pub fn line(&self, limit: Instant) -> Result<String, Silence> {
        let patience = limit.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Disconnected => Silence::Ended,
            RecvTimeoutError::Timeout => Silence::TimeUp,
        })
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) -> std::io::Result<()> {
        self.input.write_all(line.as_bytes())?;
        self.input.write_all(b"\n")?;
        self.input.flush()
    }

    /// Everything that came, each line with its second.
    pub fn log(&self) -> String {
        self.log.text.lock().expect("the log").clone()
    }
}

#[derive(Clone)]
struct Log {
    begin: Instant,
    text: Arc<Mutex<String>>,
}

impl Log {
    /// Writes down every line of `input`, and hands it on.
    fn follow(&self, input: impl Read, to: impl Fn(String)) {
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        // An error is the end of the machine, as is the end of the file.
        while input.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let entry = format!("{:8.2} {text}\n", self.begin.elapsed().as_secs_f32());
            self.text.lock().expect("the log").push_str(&entry);
            to(text);
        }
    }
}
