//! Machines that QEMU boots with real kernels, and on each the static edgepull that was built for it.
//! [`table`] says what the machines are, the other modules what is proved on them.
//! `board-tests/run BOARD` brings kernels, QEMU and binaries, and runs these tests one after the other.

mod alignment;
mod powercut;
mod powercut_replay;
mod provisioning;
mod pulls;
mod results;
mod table;
mod tight_memory;

/// The tests of a board, and those that only some boards have.
macro_rules! board {
    ($board:ident, $model:ident $(, $more:ident)*) => {
        mod $board {
            use super::table::$model;

            #[test]
            fn pulls() {
                super::pulls::prove(&$model);
            }

            #[test]
            fn provisioning() {
                super::provisioning::prove(&$model);
            }

            #[test]
            fn tight_memory() {
                super::tight_memory::prove(&$model);
            }
            $(
                #[test]
                fn $more() {
                    super::$more::prove(&$model);
                }
            )*
        }
    };
}

board!(armv5, ARMV5, alignment);
board!(armv6, ARMV6, alignment);
board!(armv7, ARMV7);
board!(aarch64, AARCH64, powercut, powercut_replay);
board!(aarch64_32, AARCH64_32);
board!(aarch64_64only, AARCH64_64ONLY);
