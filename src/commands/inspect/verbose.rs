//! All details for people: a block for each entry, its attestations below it.

use super::Row;
use super::details::{ConfigDetails, Details};
use super::notes::Words;
use crate::commands::report::bytes;
use crate::error::Printable;
use std::fmt::Display;

/// Lines with a name in front, and what is below it further to the right.
struct Lines(Vec<String>);

impl Lines {
    fn named(&mut self, name: &str, text: impl Display) {
        self.0.push(format!("  {name:<13}{text}"));
    }

    /// What somebody else has written, if it was.
    fn given(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.named(name, Printable(text));
        }
    }

    fn given_list(&mut self, name: &str, list: &[String]) {
        if !list.is_empty() {
            self.named(name, Printable(&format!("{list:?}")));
        }
    }

    fn below(&mut self, text: impl Display) {
        self.0.push(format!("    {text}"));
    }

    fn words(&mut self, name: &str, words: &Words) {
        if !words.is_empty() {
            self.0.push(format!("  {name}"));
        }
        for (name, value) in words {
            self.below(format_args!("{} = {}", Printable(name), Printable(value)));
        }
    }
}

/// Nothing where there are no details. `index`: its annotations, and how many more it has.
pub(super) fn lines(index: Option<(&Words, usize)>, rows: &[Row], details: &[Details]) -> Vec<String> {
    let mut lines = Lines(Vec::new());
    if let Some((annotations, left_out)) = index.filter(|(words, more)| !words.is_empty() || *more > 0) {
        lines.0.extend(["", "the index"].map(String::from));
        lines.words("annotations", annotations);
        lines.left_out(left_out);
    }
    let all = || rows.iter().zip(details);
    // An attestation about one is not shown below it, lest those about each other be shown nowhere.
    let others = all().filter(|(_, details)| details.attestation_for.is_none());
    let images: Vec<&str> = others.map(|(row, _)| row.digest.as_str()).collect();
    let is_below = |details: &Details| {
        details.attestation_for.as_ref().is_some_and(|about| images.iter().any(|image| image == about))
    };
    for (row, details) in all().filter(|(_, details)| !is_below(details)) {
        lines.entry(row, details);
        let about = &row.digest;
        for (row, details) in all().filter(|(_, it)| it.attestation_for.as_ref() == Some(about)) {
            if is_below(details) {
                lines.attestation(&row.digest, details);
            }
        }
    }
    lines.0
}

/// How large the manifest is said to be.
fn size(details: &Details) -> String {
    details.manifest_size.map_or_else(|| "of an unknown size".to_owned(), bytes)
}

impl Lines {
    fn entry(&mut self, row: &Row, details: &Details) {
        self.0.push(String::new());
        let title = match row.platform.as_str() {
            "-" if row.is_unusable => "unusable",
            "-" => &row.verdict,
            platform => platform,
        };
        let digest = if row.digest.is_empty() { "(no digest)" } else { &row.digest };
        self.0.push(format!("{}  {}", Printable(title), Printable(digest)));
        let media_type = super::shown(&row.media_type);
        self.named("manifest", format_args!("{media_type}, {}", size(details)));
        if row.is_unusable {
            self.named("unusable", Printable(&row.verdict));
        }
        self.given("artifact", details.artifact_type.as_deref());
        self.label(details);
        self.given("about", details.attestation_for.as_deref());
        self.words("annotations of the entry", &details.annotations);
        self.words("annotations of the manifest", &details.manifest_annotations);
        if !details.layer_details.is_empty() {
            self.0.push("  layers".into());
        }
        self.layers(details);
        if let Some(config) = &details.config {
            self.config(config);
        }
        self.rest(details);
    }

    /// As the index has it, whatever it means.
    fn label(&mut self, details: &Details) {
        let list = |list: &[String]| (!list.is_empty()).then(|| format!("{list:?}"));
        let parts = [
            ("os", details.os.clone()),
            ("architecture", details.architecture.clone()),
            ("variant", details.variant.clone()),
            ("os.version", details.os_version.clone()),
            ("os.features", list(&details.os_features)),
            ("features", list(&details.features)),
        ];
        let given = |(name, text): (_, Option<String>)| {
            Some(format!("{name} {}", Printable(&text.filter(|text| !text.is_empty())?)))
        };
        let label = parts.into_iter().filter_map(given).collect::<Vec<_>>().join(", ");
        self.given("label", Some(label.as_str()).filter(|label| !label.is_empty()));
    }

    fn layers(&mut self, details: &Details) {
        for layer in &details.layer_details {
            let foreign = if layer.foreign { ", foreign" } else { "" };
            let what = match &layer.predicate_type {
                Some(predicate_type) => Printable(predicate_type).to_string(),
                None => super::shown(&layer.media_type),
            };
            self.below(format_args!("{}  {:>8}  {what}{foreign}", layer.digest, bytes(layer.size)));
        }
    }

    fn config(&mut self, config: &ConfigDetails) {
        self.named("config", config.digest);
        let parts = [&config.os, &config.architecture, &config.variant];
        let platform: Vec<&str> = parts.into_iter().filter_map(|part| part.as_deref()).collect();
        self.named("made for", Printable(&platform.join("/")));
        self.given("created", config.created.as_deref());
        self.given_list("entrypoint", &config.entrypoint);
        self.given_list("cmd", &config.cmd);
        self.given("user", config.user.as_deref());
        self.given("working dir", config.working_dir.as_deref());
        if !config.env.is_empty() {
            self.0.push("  env".into());
        }
        for variable in &config.env {
            self.below(Printable(variable));
        }
        self.named("diff-ids", config.diff_ids);
        self.words("labels", &config.labels);
    }

    fn attestation(&mut self, digest: &str, details: &Details) {
        self.named("attestation", format_args!("{digest}, {}", size(details)));
        self.layers(details);
        self.rest(details);
    }

    fn rest(&mut self, details: &Details) {
        for problem in &details.problems {
            // An error's text is printable.
            self.named("unknown", problem);
        }
        self.left_out(details.left_out);
    }

    fn left_out(&mut self, count: usize) {
        if count > 0 {
            self.named("left out", format_args!("{count} more, for limits or as no text"));
        }
    }
}
