//! A compressed block (RFC 8878, 3.1.1.3): its literals, and the sequences that say where they go and what is repeated
//! between them. It goes on whenever the window has room.

use std::io::{self, BufRead};

use super::literals::Literals;
use super::sequences::{Sequence, Sequences};
use super::window::Window;
use super::{BLOCK_MAX, broken, exactly};

const NO_SEQUENCE: Sequence = Sequence { literals: 0, length: 0, offset: 0 };

/// A compressed block, and what the next one of the frame may use of it again.
pub(super) struct Block {
    data: Box<[u8]>,
    length: usize,
    literals: Literals,
    sequences: Sequences,
    /// What is left of the sequence at hand.
    now: Sequence,
    /// How many bytes it may still give.
    room: usize,
}

impl Block {
    pub(super) fn new() -> Block {
        Block {
            data: vec![0; BLOCK_MAX].into_boxed_slice(),
            length: 0,
            literals: Literals::new(),
            sequences: Sequences::new(),
            now: NO_SEQUENCE,
            room: 0,
        }
    }

    /// A new frame.
    pub(super) fn forget(&mut self) {
        self.literals.forget();
        self.sequences.forget();
        self.now = NO_SEQUENCE;
    }

    /// Begins with the next `length` bytes of `wire`, which give at most `room`. Neither is more than [`BLOCK_MAX`].
    pub(super) fn begin(&mut self, wire: &mut impl BufRead, length: usize, room: usize) -> io::Result<()> {
        exactly(wire, &mut self.data[..length])?;
        (self.length, self.room) = (length, room);
        let data = &self.data[..length];
        let at = self.literals.begin(data).ok_or_else(|| unsound("literals"))?;
        self.sequences.begin(data, at).ok_or_else(|| unsound("sequences"))
    }

    /// Whether everything has come.
    pub(super) fn is_done(&self) -> bool {
        let left = self.now.literals + self.now.length + self.literals.left();
        left == 0 && self.sequences.left() == 0
    }

    /// Goes on until all has come, or the window is full.
    pub(super) fn go_on(&mut self, window: &mut Window) -> io::Result<()> {
        while !self.is_done() && window.room() > 0 {
            if self.now.literals > 0 {
                let length = self.now.literals.min(window.room());
                let data = &self.data[..self.length];
                self.literals.take(data, window.extend(length)).ok_or_else(|| unsound("literals"))?;
                self.now.literals -= length;
            } else if self.now.length > 0 {
                if self.now.offset > window.reach() {
                    return Err(broken("a zstd sequence repeats what is not in the window"));
                }
                self.now.length -= window.repeat(self.now.offset, self.now.length)?;
            } else {
                self.now = self.next()?;
            }
        }
        Ok(())
    }

    /// The next sequence, or the literals after the last one.
    fn next(&mut self) -> io::Result<Sequence> {
        let sequence = match self.sequences.left() {
            0 => Sequence { literals: self.literals.left(), ..NO_SEQUENCE },
            _ => self.sequences.next(&self.data[..self.length]).ok_or_else(|| unsound("sequences"))?,
        };
        if sequence.literals > self.literals.left() {
            return Err(broken("a zstd sequence wants more literals than the block has"));
        }
        self.room = self
            .room
            .checked_sub(sequence.literals + sequence.length)
            .ok_or_else(|| broken("a zstd block gives more than a block may"))?;
        Ok(sequence)
    }
}

fn unsound(what: &str) -> io::Error {
    broken(format!("broken zstd data: a block's {what} are not sound"))
}
