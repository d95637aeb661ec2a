//! The board tests: the finished program against real registries, real tools and hostile servers.
//! `board-tests/run` installs what they need and runs them; they want root, as they compare owners.

mod background;
mod bare;
mod binaries;
mod clock;
mod confined;
mod deployments;
mod destination;
mod distribution;
mod evil;
mod example;
mod failures;
mod faults;
mod guests;
mod harness;
mod kept;
mod life;
mod machines;
mod networks;
mod output;
mod packages;
mod powercut;
mod publish;
mod readers;
mod registries;
mod remembered;
mod secrets;
mod selection;
mod signatures;
mod trees;
mod units;
mod users;
