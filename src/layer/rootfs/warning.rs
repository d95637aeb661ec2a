//! What could not be kept, counted by kind: one line for the user, however many files it is about.

use std::fmt;

use super::path::Shown;

/// What could not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningKind {
    /// Owner and group were neither set nor noted.
    OwnershipDropped,
    /// A device node was left out.
    DeviceSkipped,
    /// An extended attribute that the file system does not have.
    XattrUnsupported,
    /// An extended attribute that only a more privileged user may set.
    XattrForbidden,
    /// An extended attribute that takes CAP_SYS_ADMIN, which is given up before anything is unpacked
    /// ([`crate::sandbox`]).
    XattrSysAdmin,
    /// A `user.*` attribute of something that can have none.
    XattrOnNode,
    /// An extended attribute that has a meaning only on the machine where the image was made.
    XattrOfHost,
}

impl WarningKind {
    /// The name in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            WarningKind::OwnershipDropped => "ownership-dropped",
            WarningKind::DeviceSkipped => "device-skipped",
            WarningKind::XattrUnsupported => "xattr-unsupported",
            WarningKind::XattrForbidden => "xattr-forbidden",
            WarningKind::XattrSysAdmin => "xattr-sys-admin",
            WarningKind::XattrOnNode => "xattr-on-node",
            WarningKind::XattrOfHost => "xattr-of-host",
        }
    }
}

/// One kind of loss: how often, and the first path.
#[derive(Debug, Clone)]
pub struct Warning {
    /// What was lost.
    pub kind: WarningKind,
    /// How many times.
    pub count: u64,
    /// The first path it happened to, fit for printing.
    pub first: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { kind, count, first } = self;
        let what = match kind {
            WarningKind::OwnershipDropped => "owner and group could not be kept",
            WarningKind::DeviceSkipped => "device nodes were left out, only root can make them",
            WarningKind::XattrUnsupported => "extended attributes were left out, the file system has none",
            WarningKind::XattrForbidden => "extended attributes were left out, this user may not set them",
            WarningKind::XattrSysAdmin => {
                "trusted.* or security.* attributes were left out, they take CAP_SYS_ADMIN, \
                 which edgepull gives up before it unpacks"
            }
            WarningKind::XattrOnNode => {
                "user.* attributes were left out, Linux has them for files and directories only"
            }
            WarningKind::XattrOfHost => "extended attributes of the image's build machine were left out",
        };
        write!(f, "{what} ({count} times, first at {first})")
    }
}

/// Adds `more` to `warnings`, where there stays at most one of each kind.
pub fn merge(warnings: &mut Vec<Warning>, more: Vec<Warning>) {
    for new in more {
        match warnings.iter_mut().find(|warning| warning.kind == new.kind) {
            Some(warning) => warning.count += new.count,
            None => warnings.push(new),
        }
    }
}

/// The warnings so far; at most one of each kind.
#[derive(Debug, Default)]
pub(in crate::layer) struct Warnings {
    list: Vec<Warning>,
}

impl Warnings {
    /// Counts one more loss.
    pub(super) fn add(&mut self, kind: WarningKind, path: &[u8]) {
        match self.list.iter_mut().find(|warning| warning.kind == kind) {
            Some(warning) => warning.count += 1,
            None => self.list.push(Warning { kind, count: 1, first: Shown(path).to_string() }),
        }
    }

    pub(super) fn list(&self) -> &[Warning] {
        &self.list
    }

    pub(in crate::layer) fn into_list(self) -> Vec<Warning> {
        self.list
    }
}
