//! YAML (1.2, of which JSON is a part) as a tree of lists, maps and text.
//!
//! The parser is yaml-rust2's; the tree is made here from its events, because it is to be bounded before it is made, to
//! say in which line a mistake is, and to keep every scalar as it is written: `1.10` is a version and no number. Aliases
//! are copies, and `<<` merges as YAML 1.1 has it and gopkg.in/yaml.v3 does it.

use crate::error::{Error, Kind, Result};
use std::ops::AddAssign;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

/// The most nodes of a document, copies by aliases included: some thousand entries.
const NODES_MAX: usize = 65_536;
/// The most text of a document, in bytes, copies by aliases included: four times the largest file. An alias takes three
/// bytes, and what it copies may be the rest of the file.
const TEXT_MAX: usize = 4 << 20;
/// How deep lists and maps may lie in each other.
const DEPTH_MAX: usize = 16;

/// A node, and the line that it begins in, counted from 1.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `~`, `null`, or nothing.
    Null,
    /// As it is written, without quotes.
    Scalar(String),
    /// In its order.
    List(Vec<Node>),
    /// In its order; no key is there twice.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// What it is, for an error.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    fn size(&self) -> Size {
        let mut size = Size { nodes: 1, text: 0 };
        match &self.value {
            Value::Null => {}
            Value::Scalar(text) => size.text = text.len(),
            Value::List(items) => items.iter().for_each(|node| size += node.size()),
            Value::Map(pairs) => pairs.iter().for_each(|(key, node)| {
                size.text += key.len();
                size += node.size();
            }),
        }
        size
    }
}

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    /// In bytes.
    text: usize,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.nodes += other.nodes;
        self.text += other.text;
    }
}

/// The first document of `text`.
///
/// # Errors
/// [`Kind::Usage`] with the line of what is no YAML, or beyond a limit.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    loop {
        let (event, marker) = parser.next_token().map_err(|error| broken(&error))?;
        let (event, anchor) = match event {
            Event::StreamEnd | Event::DocumentEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart => continue,
            Event::Scalar(text, style, anchor, _) => (Step::Leaf(scalar(text, style)), anchor),
            Event::SequenceStart(anchor, _) => (Step::Open(Value::List(Vec::new())), anchor),
            Event::MappingStart(anchor, _) => (Step::Open(Value::Map(Vec::new())), anchor),
            Event::Alias(anchor) => (Step::Copy, anchor),
            Event::SequenceEnd | Event::MappingEnd => (Step::Close, 0),
        };
        builder.step(event, anchor, marker)?;
    }
    Ok(builder.root.unwrap_or(Node { line: 1, value: Value::Null }))
}

fn broken(error: &ScanError) -> Error {
    wrong(error.marker().line(), error.info())
}

/// An error in this line.
pub(super) fn wrong(line: usize, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Usage, format!("line {line}: {what}"))
}

fn scalar(text: String, style: TScalarStyle) -> Value {
    match style == TScalarStyle::Plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        true => Value::Null,
        false => Value::Scalar(text),
    }
}

enum Step {
    Leaf(Value),
    Open(Value),
    Close,
    Copy,
}

/// Makes the tree.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    /// What is open, with its anchor and, in a map, the key that waits for its value.
    open: Vec<(Node, usize, Option<String>)>,
    /// By number; 0 is none.
    anchors: Vec<(usize, Node)>,
    size: Size,
}

impl Builder {
    fn step(&mut self, step: Step, anchor: usize, marker: Marker) -> Result<()> {
        let line = marker.line();
        match step {
            Step::Leaf(value) => {
                let node = Node { line, value };
                let size = node.size();
                self.add(node, anchor, size)
            }
            Step::Open(_) if self.open.len() == DEPTH_MAX => {
                Err(wrong(line, format_args!("nested deeper than {DEPTH_MAX} (limit DEPTH_MAX)")))
            }
            Step::Open(value) => {
                self.open.push((Node { line, value }, anchor, None));
                Ok(())
            }
            Step::Close => {
                let Some((mut node, anchor, _)) = self.open.pop() else { return Ok(()) };
                merge(&mut node)?;
                self.add(node, anchor, Size { nodes: 1, text: 0 })
            }
            Step::Copy => {
                let known = self.anchors.iter().rev().find(|(number, _)| *number == anchor);
                let node = known.map(|(_, node)| Node { line, value: node.value.clone() });
                let node = node.ok_or_else(|| wrong(line, "an alias of what it stands in"))?;
                let size = node.size();
                self.add(node, 0, size)
            }
        }
    }

    /// `new` of it was not counted yet: what is in a list or map was, as it came.
    fn add(&mut self, node: Node, anchor: usize, new: Size) -> Result<()> {
        let line = node.line;
        self.size += new;
        if anchor != 0 {
            self.size += node.size();
        }
        if self.size.nodes > NODES_MAX {
            return Err(wrong(line, format_args!("more than {NODES_MAX} nodes (limit NODES_MAX)")));
        }
        if self.size.text > TEXT_MAX {
            return Err(wrong(line, format_args!("more than {TEXT_MAX} bytes of text (limit TEXT_MAX)")));
        }
        if anchor != 0 {
            self.anchors.push((anchor, node.clone()));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Node { value: Value::Map(pairs), .. }, _, key)) => match key.take() {
                Some(key) if pairs.iter().any(|(known, _)| *known == key) => {
                    return Err(wrong(line, format_args!("{key:?} is there twice")));
                }
                Some(key) => pairs.push((key, node)),
                None => match node.value {
                    Value::Scalar(text) => *key = Some(text),
                    _ => return Err(wrong(line, format_args!("a key is {}", node.kind()))),
                },
            },
            Some((Node { value: Value::List(items), .. }, ..)) => items.push(node),
            // Only lists and maps are ever open.
            Some(_) => {}
        }
        Ok(())
    }
}

/// Puts what `<<` names behind what the map has itself, which wins.
fn merge(node: &mut Node) -> Result<()> {
    let Value::Map(pairs) = &mut node.value else { return Ok(()) };
    let Some(at) = pairs.iter().position(|(key, _)| key == "<<") else { return Ok(()) };
    let (_, merged) = pairs.remove(at);
    let sources = match merged.value {
        Value::List(items) => items,
        _ => vec![merged],
    };
    for source in sources {
        let Value::Map(more) = source.value else {
            return Err(wrong(source.line, format_args!("<< is {}, not a map", source.kind())));
        };
        for (key, value) in more {
            if !pairs.iter().any(|(known, _)| *known == key) {
                pairs.push((key, value));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".into(),
            Value::Scalar(text) => format!("{text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Value::Map(pairs) => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(key, node)| format!("{key}={}", shown(node))).collect();
                format!("{{{}}}", pairs.join(" "))
            }
        }
    }

    fn tree(text: &str) -> String {
        shown(&parse(text).unwrap())
    }

    fn refusal(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        error.to_string()
    }

    #[test]
    fn scalars_are_kept_as_they_are_written() {
        assert_eq!(
            tree("a: 1.10\nb: 0x10\nc: yes\nd: '~'\ne: ~\nf:\n"),
            r#"{a="1.10" b="0x10" c="yes" d="~" e=~ f=~}"#
        );
        assert_eq!(tree("[\"1.0\", 1.0, null]"), r#"["1.0" "1.0" ~]"#);
        assert_eq!(tree(r#"{"a": ["b", {"c": "\u00e9"}]}"#), r#"{a=["b" {c="é"}]}"#);
        assert_eq!(tree(""), "~");
    }

    #[test]
    fn aliases_are_copies_and_merges_fill_up() {
        let text =
            "base: &b {os: linux, architecture: arm}\none:\n  <<: *b\n  architecture: arm64\ntwo: *b\n";
        let base = r#"{os="linux" architecture="arm"}"#;
        let one = r#"{architecture="arm64" os="linux"}"#;
        assert_eq!(tree(text), format!("{{base={base} one={one} two={base}}}"));
        assert!(refusal("a: &a [*a]").contains("alias"));
    }

    #[test]
    fn what_grows_is_bounded() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{before}]\n");
        }
        assert!(refusal(&bomb).contains("NODES_MAX"), "{}", refusal(&bomb));
        // One long text, and short words for it; the key of a map is text, too.
        let long = "x".repeat(100_000);
        for long in [format!("- &a {long}\n"), format!("- &a {{{long}: 1}}\n").replace(&long, &long[..1000])]
        {
            let refusal = refusal(&format!("{long}{}", "- *a\n".repeat(10_000)));
            assert!(refusal.contains("TEXT_MAX"), "{refusal}");
        }
        assert!(refusal(&"[".repeat(100)).contains("DEPTH_MAX"));
        // The parser's own limit, before it looks for the end of all these.
        assert!(refusal(&"[".repeat(100_000)).contains("recursion limit"));
        assert!(refusal(&"a: {".repeat(100)).contains("DEPTH_MAX"));
    }

    #[test]
    fn mistakes_have_a_line() {
        assert!(refusal("a: 1\nb: [1\n").starts_with("line "), "{}", refusal("a: 1\nb: [1\n"));
        assert!(refusal("a: 1\n\nb: 2\na: 3\n").starts_with("line 4: \"a\" is there twice"));
        assert!(refusal("? [a]\n: b\n").contains("a key is a list"));
    }
}
