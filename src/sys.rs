//! Every raw syscall in one place, each with its fallback for old kernels.
#![allow(unsafe_code)]
