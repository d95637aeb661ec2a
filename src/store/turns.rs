//! Decides in which order one run works on all deployments: the one that has waited longest goes first.
//!
//! ```text
//! /run/edgepull/turns-HASH    one file for each state directory, in memory: written before each attempt
//! STATE/turns                 the same, durable: written when an attempt begins to fetch, and before the first one
//!                             since the board's start
//! ```
//!
//! Each file has a line `COUNT NAME` for each deployment, with the number of its last attempt, counted over all of
//! them. No clock has a say, because a board's may be wrong.
//!
//! An attempt is noted before it begins, as a run may be ended in the middle of it; the next one then begins with
//! another deployment. Notes in memory wear out no flash: a run that finds nothing new writes nothing to the disk,
//! but for the first one since the board's start. That one must write, for a board may be switched off, each time,
//! while the same deployment's registry says nothing. Deployments with equal counts go in an order that
//! differs from boot to boot. If `/run` cannot be written to, the durable file is written instead. A note that cannot be read or
//! written spoils the order and nothing else.

use super::{disk, state};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::sys;
use std::path::{Path, PathBuf};

/// Names the durable file in the state directory.
const NAME: &str = "turns";
/// Names the directory in memory, which the board's next start empties.
const MEMORY: &str = "/run/edgepull";
/// Limits the file that is read, in bytes: it has room for some 700 deployments with the longest names.
const SIZE_MAX: u64 = 64 * 1024;

/// Holds names with their counts, in the order of the names. There are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts(Vec<(String, u64)>);

impl Counts {
    /// Returns the count of `name`, or 0 if it has none.
    fn of(&self, name: &str) -> u64 {
        self.0.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
    }

    /// Raises the count of `name` to `count`, unless it is as high already.
    fn raise(&mut self, name: String, count: u64) {
        match self.0.binary_search_by(|(known, _)| known.as_str().cmp(&name)) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(count),
            Err(at) => self.0.insert(at, (name, count)),
        }
    }
}

/// Holds the turns of all deployments of a state directory. Whoever changes them holds its lock.
#[derive(Debug)]
pub struct Turns {
    state: PathBuf,
    memory: PathBuf,
    boot: String,
    /// Is set until a run since the board's start has noted something.
    first: bool,
    counts: Counts,
    durable: Counts,
}

impl Turns {
    /// Reads the turns of `state`. Files that are missing or unreadable count as empty.
    pub fn of(state: &Path) -> Turns {
        Turns::kept_in(state, Path::new(MEMORY), sys::boot_id().unwrap_or_default())
    }

    fn kept_in(state: &Path, memory: &Path, boot: String) -> Turns {
        let (state, memory) = (state.to_owned(), memory.to_owned());
        let mut turns =
            Turns { state, memory, boot, first: true, counts: Counts::default(), durable: Counts::default() };
        turns.durable = load(&turns.state.join(NAME));
        turns.counts = turns.durable.clone();
        turns.first = !turns.memory.join(turns.name_in_memory()).exists();
        for (name, count) in load(&turns.memory.join(turns.name_in_memory())).0 {
            turns.counts.raise(name, count);
        }
        turns
    }

    /// Sorts `names` into the order of their turns.
    pub fn order(&self, names: &mut [String]) {
        // Without an id of the boot, equal ones stay as they are.
        let lot = |name: &str| match self.boot.as_str() {
            "" => Digest([0; 32]),
            boot => Digest::of(format!("{boot} {name}").as_bytes()),
        };
        names.sort_by_cached_key(|name| (self.counts.of(name), lot(name)));
    }

    /// Notes that an attempt of `name` begins now; `names` are all deployments, `name` included. If there is only
    /// one, nothing is noted, as it always has its turn.
    pub fn begins(&mut self, name: &str, names: &[String]) {
        if names.len() < 2 {
            return;
        }
        let last = self.counts.0.iter().map(|(_, count)| *count).max().unwrap_or(0);
        self.counts.raise(name.to_owned(), last.saturating_add(1));
        self.counts.0.retain(|(known, _)| names.contains(known));
        // Whoever keeps the board busy until it is switched off has had its turn, too.
        if self.first {
            self.first = false;
            self.persist();
        }
        if let Err(error) = self.note() {
            log::debug!("turns are noted in the state directory: {error}");
            self.persist();
        }
    }

    /// Notes the turns in memory.
    fn note(&self) -> Result<()> {
        state::make(&self.memory, state::PRIVATE)?;
        disk::replace(&self.memory, &self.name_in_memory(), text(&self.counts).as_bytes(), disk::PRIVATE)
    }

    /// Notes the turns durably, unless that has been done: what has begun is going to take long. A failure is only
    /// logged.
    pub fn persist(&mut self) {
        if self.counts == self.durable {
            return;
        }
        match self.save() {
            Ok(()) => self.durable = self.counts.clone(),
            Err(error) => log::info!("whose turn it is cannot be noted: {error}"),
        }
    }

    fn save(&self) -> Result<()> {
        disk::replace(&self.state, NAME, text(&self.counts).as_bytes(), disk::PRIVATE)
    }

    /// Names the file in memory after the state directory's path, as several state directories may share
    /// `/run/edgepull`.
    fn name_in_memory(&self) -> String {
        let state = std::path::absolute(&self.state).unwrap_or_else(|_| self.state.clone());
        format!("{NAME}-{}", Digest::of(state.as_os_str().as_encoded_bytes()).short())
    }
}

fn text(counts: &Counts) -> String {
    counts.0.iter().map(|(name, count)| format!("{count} {name}\n")).collect()
}

/// Reads the counts of a file, and passes over lines that make no sense.
fn load(path: &Path) -> Counts {
    let bytes = disk::read(path, SIZE_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let line = |line: &str| {
        let (count, name) = line.split_once(' ')?;
        // A count that has no successor would be the last word for ever.
        let count: u64 = count.parse().ok().filter(|count| *count < u64::MAX / 2)?;
        Some((name.to_owned(), count))
    };
    let mut counts = Counts::default();
    for (name, count) in text.lines().filter_map(line) {
        counts.raise(name, count);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place {
        _home: tempfile::TempDir,
        state: PathBuf,
        memory: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let home = tempfile::tempdir().unwrap();
            let (state, memory) = (home.path().join("state"), home.path().join("run"));
            fs::create_dir(&state).unwrap();
            Place { _home: home, state, memory }
        }

        fn turns(&self) -> Turns {
            Turns::kept_in(&self.state, &self.memory, String::new())
        }

        fn order(&self) -> String {
            let mut names = names();
            self.turns().order(&mut names);
            names.concat()
        }

        fn restart(&self) {
            let _ = fs::remove_dir_all(&self.memory);
        }
    }

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    #[test]
    fn whoever_has_waited_longest_goes_first_also_behind_a_run_that_was_killed() {
        let place = Place::new();
        assert_eq!(place.order(), "abc");
        // Each run is killed in its first deployment, before that has anything to fetch.
        for next in ["bca", "cab", "abc", "bca"] {
            let mut names = names();
            let mut turns = place.turns();
            turns.order(&mut names);
            turns.begins(&names[0], &names);
            assert_eq!(place.order(), next);
        }
        let durable = fs::read_to_string(place.state.join("turns")).unwrap();
        assert_eq!(durable, "1 a\n", "flash was written to more than once since the board's start");
    }

    #[test]
    fn a_board_that_is_switched_off_in_the_middle_of_a_turn_begins_with_another_one() {
        let place = Place::new();
        // The registry of "a" says nothing, so nothing is ever fetched for it.
        for first in ["a", "b", "c", "a", "b"] {
            let mut names = names();
            let mut turns = place.turns();
            turns.order(&mut names);
            assert_eq!(names[0], first);
            turns.begins(&names[0], &names);
            place.restart();
        }
    }

    #[test]
    fn what_has_begun_to_fetch_is_remembered_by_the_flash() {
        let place = Place::new();
        let mut turns = place.turns();
        turns.begins("a", &names());
        turns.persist();
        turns.begins("b", &names());
        assert_eq!(place.order(), "cab");
        place.restart();
        assert_eq!(place.order(), "bca");
        // What is no news is not written.
        let before = fs::metadata(place.state.join("turns")).unwrap().modified().unwrap();
        place.turns().persist();
        assert_eq!(fs::metadata(place.state.join("turns")).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn without_memory_the_flash_has_to_do() {
        let place = Place::new();
        fs::write(&place.memory, "no directory").unwrap();
        place.turns().begins("a", &names());
        assert_eq!(place.order(), "bca");
        assert!(place.state.join("turns").is_file());
    }

    #[test]
    fn equal_ones_are_in_another_order_after_each_boot() {
        let place = Place::new();
        let orders: Vec<String> = (0..20)
            .map(|boot| {
                let mut names = names();
                Turns::kept_in(&place.state, &place.memory, boot.to_string()).order(&mut names);
                names.concat()
            })
            .collect();
        for first in ["a", "b", "c"] {
            assert!(orders.iter().any(|order| order.starts_with(first)), "{orders:?}");
        }
    }

    #[test]
    fn what_is_alone_is_not_noted_and_what_is_gone_is_forgotten() {
        let place = Place::new();
        place.turns().begins("a", &["a".to_owned()]);
        assert!(!place.memory.exists() && !place.state.join("turns").exists());
        place.turns().begins("a", &names());
        let mut turns = place.turns();
        turns.begins("b", &["b".to_owned(), "c".to_owned()]);
        assert_eq!(turns.counts, Counts(vec![("b".to_owned(), 2)]));
    }

    #[test]
    fn junk_spoils_the_order_and_nothing_else() {
        let place = Place::new();
        for junk in ["\0\0\0", "1", "x a\n", "18446744073709551615 a\n", "-1 a\n"] {
            fs::write(place.state.join("turns"), junk).unwrap();
            assert_eq!(place.order(), "abc", "{junk:?}");
        }
        fs::write(place.state.join("turns"), "7 a\njunk\n3 c\n").unwrap();
        assert_eq!(place.order(), "bca");
        let mut turns = place.turns();
        turns.begins("b", &names());
        assert_eq!(place.order(), "cab");
    }
}
