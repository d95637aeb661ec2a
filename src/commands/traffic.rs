//! How `copy` and `manifest push` tell what they send.

use super::report::{Report, bytes};
use crate::image::manifest::Descriptor;
use crate::source::{Step, Totals};
use serde_json::json;

/// Tells what becomes of each blob: to machines always, to people with `-v`, and what is sent in any case where that is
/// what the command is about (`is_shown`). What cannot be written is no reason to end a push.
pub(super) fn progress(report: &Report, is_shown: bool) -> impl FnMut(&Descriptor, Step) + use<'_> {
    move |blob, step| {
        let (how, said) = match step {
            Step::Sent(_) => return,
            Step::Present => ("present", "there already"),
            Step::Mounted => ("mounted", "taken over from the other repository"),
            Step::Foreign => ("foreign", "left alone: it is had from where its urls say"),
            Step::Done => ("sent", "sent"),
        };
        let line = format!("blob {} of {}: {said}", blob.digest.short(), bytes(blob.size));
        if report.is_json() || (is_shown && step == Step::Done) {
            let machine = || json!({ "event": "blob", "digest": blob.digest, "size": blob.size, "how": how });
            let _ = report.event(line, machine);
        } else {
            log::info!("{line}");
        }
    }
}

/// `3 blobs sent (12.3 MB), 2 mounted, 7 there already`.
pub(super) fn summary(totals: &Totals) -> String {
    let Totals { sent, bytes: sum, mounted, present, .. } = totals;
    format!("{sent} blobs sent ({}), {mounted} mounted, {present} parts there already", bytes(*sum))
}

/// The same for machines, beside what else is said.
pub(super) fn machine(totals: &Totals, mut event: serde_json::Value) -> serde_json::Value {
    event["manifests"] = totals.manifests.into();
    event["sent"] = totals.sent.into();
    event["bytes"] = totals.bytes.into();
    event["mounted"] = totals.mounted.into();
    event["present"] = totals.present.into();
    event
}
