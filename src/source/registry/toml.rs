//! The part of TOML 1.0 that a `hosts.toml` is written in: tables, dotted and quoted keys, strings of all four
//! kinds, arrays, inline tables, booleans. Numbers and dates are passed over, as no key of that file has one;
//! arrays of tables are refused.
//!
//! It is of our own for its size: 5 KB, where the crate `toml` takes 89 and `toml_parser` 35, of the 15 that an
//! Arm binary has left. What comes out is one list in the file's order, which is what the order of mirrors
//! means. No key may stand there twice.

/// The most keys and tables of a file.
const ENTRIES_MAX: usize = 512;
/// How deep arrays and inline tables may be nested.
const DEPTH_MAX: usize = 8;

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A string.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// An array.
    List(Vec<Value>),
    /// A table's header; its keys are entries of their own.
    Table,
    /// A number or date.
    Other,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    /// The tables' names and the key's.
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    /// Where it stands, counted from 1.
    pub(super) line: usize,
}

/// What is wrong, and in which line.
pub(super) type Wrong = (usize, &'static str);

/// All entries of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Wrong> {
    let mut parser =
        Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1, entries: Vec::new() };
    parser.file().map_err(|what| (parser.line, what))?;
    Ok(parser.entries)
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    entries: Vec<Entry>,
}

type Step<T> = Result<T, &'static str>;

impl Parser<'_> {
    fn file(&mut self) -> Step<()> {
        let mut table = Vec::new();
        loop {
            self.blank_lines();
            if self.rest.is_empty() {
                return Ok(());
            }
            if self.take("[[") {
                return Err("an array of tables, of which a hosts.toml has none");
            }
            if self.take("[") {
                table = self.keys(&[])?;
                self.expect("]", "a ] is missing")?;
                self.add(table.clone(), Value::Table)?;
            } else {
                self.pair(&table, 0)?;
            }
            self.blanks();
            self.comment();
            if !self.rest.is_empty() && !self.line_end() {
                return Err("something follows where the line should end");
            }
        }
    }

    /// `key = value`, below `table`.
    fn pair(&mut self, table: &[String], depth: usize) -> Step<()> {
        let path = self.keys(table)?;
        self.expect("=", "a = is missing behind a key")?;
        self.blanks();
        if self.take("{") {
            return self.inline_table(path, depth);
        }
        self.add(path, Value::Other)?;
        let at = self.entries.len() - 1;
        // An array has no tables in it, so that nothing is added meanwhile.
        self.entries[at].value = self.value(depth)?;
        Ok(())
    }

    fn inline_table(&mut self, path: Vec<String>, depth: usize) -> Step<()> {
        if depth == DEPTH_MAX {
            return Err("it is nested too deep (edgepull's limit DEPTH_MAX)");
        }
        self.add(path.clone(), Value::Table)?;
        self.blanks();
        if self.take("}") {
            return Ok(());
        }
        loop {
            self.pair(&path, depth + 1)?;
            self.blanks();
            if self.take("}") {
                return Ok(());
            }
            self.expect(",", "a , or } is missing in a table")?;
        }
    }

    fn add(&mut self, path: Vec<String>, value: Value) -> Step<()> {
        if self.entries.len() == ENTRIES_MAX {
            return Err("there are more than 512 keys (edgepull's limit ENTRIES_MAX)");
        }
        for before in &self.entries {
            let shared = before.path.len().min(path.len());
            if before.path[..shared] != path[..shared] {
                continue;
            }
            // A table may be named after what is in it, and before.
            let fits = match before.path.len().cmp(&path.len()) {
                std::cmp::Ordering::Less => before.value == Value::Table,
                std::cmp::Ordering::Equal => false,
                std::cmp::Ordering::Greater => value == Value::Table,
            };
            if !fits {
                return Err("the same key stands there twice");
            }
        }
        self.entries.push(Entry { path, value, line: self.line });
        Ok(())
    }

    /// `a."b".c`, behind `table`.
    fn keys(&mut self, table: &[String]) -> Step<Vec<String>> {
        let mut path = table.to_vec();
        loop {
            self.blanks();
            path.push(self.key()?);
            if path.len() > DEPTH_MAX {
                return Err("it is nested too deep (edgepull's limit DEPTH_MAX)");
            }
            self.blanks();
            if !self.take(".") {
                return Ok(path);
            }
        }
    }

    fn key(&mut self) -> Step<String> {
        if self.take("\"") {
            return self.basic(false);
        }
        if self.take("'") {
            return self.literal("'", false);
        }
        match self.word(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            "" => Err("a key is missing"),
            key => Ok(key.to_owned()),
        }
    }

    fn value(&mut self, depth: usize) -> Step<Value> {
        if self.take("\"\"\"") {
            self.line_end();
            return self.basic(true).map(Value::Text);
        }
        if self.take("'''") {
            self.line_end();
            return self.literal("'''", true).map(Value::Text);
        }
        if self.take("\"") {
            return self.basic(false).map(Value::Text);
        }
        if self.take("'") {
            return self.literal("'", false).map(Value::Text);
        }
        if self.take("[") {
            return self.list(depth).map(Value::List);
        }
        match self.word(|c| c.is_ascii_alphanumeric() || "+-_.:".contains(c)) {
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            word if word.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Value::Other)
            }
            _ => Err("a value is missing, or has no quotes"),
        }
    }

    fn list(&mut self, depth: usize) -> Step<Vec<Value>> {
        if depth == DEPTH_MAX {
            return Err("it is nested too deep (edgepull's limit DEPTH_MAX)");
        }
        let mut list = Vec::new();
        loop {
            self.blank_lines();
            if self.take("]") {
                return Ok(list);
            }
            if list.len() == ENTRIES_MAX {
                return Err("an array has more than 512 values (edgepull's limit ENTRIES_MAX)");
            }
            list.push(self.value(depth + 1)?);
            self.blank_lines();
            if !self.take(",") {
                return self.expect("]", "a , or ] is missing in an array").map(|()| list);
            }
        }
    }

    /// Behind `"` or `"""`.
    fn basic(&mut self, lines: bool) -> Step<String> {
        let mut text = String::new();
        loop {
            if lines && self.take("\"\"\"") {
                // Two more quotes may belong to the text.
                for _ in 0..2 {
                    if self.take("\"") {
                        text.push('"');
                    }
                }
                return Ok(text);
            }
            let character = self.character(lines)?;
            match character {
                '"' if !lines => return Ok(text),
                '\\' => {
                    if let Some(character) = self.escape(lines)? {
                        text.push(character);
                    }
                }
                other => text.push(other),
            }
        }
    }

    /// Behind a backslash. `None`: the line goes on in the next one.
    fn escape(&mut self, lines: bool) -> Step<Option<char>> {
        const WRONG: &str = "no such escape in a string";
        let digits = match self.character(lines)? {
            'b' => return Ok(Some('\u{8}')),
            't' => return Ok(Some('\t')),
            'n' => return Ok(Some('\n')),
            'f' => return Ok(Some('\u{c}')),
            'r' => return Ok(Some('\r')),
            same @ ('"' | '\\') => return Ok(Some(same)),
            'u' => 4,
            'U' => 8,
            ' ' | '\t' | '\n' | '\r' if lines => {
                self.blanks();
                while self.line_end() {
                    self.blanks();
                }
                return Ok(None);
            }
            _ => return Err(WRONG),
        };
        let number = self.rest.get(..digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(WRONG)?;
        self.rest = &self.rest[digits..];
        char::from_u32(number).map(Some).ok_or(WRONG)
    }

    /// Behind `'` or `'''`.
    fn literal(&mut self, end: &str, lines: bool) -> Step<String> {
        let mut text = String::new();
        while !self.take(end) {
            text.push(self.character(lines)?);
        }
        while lines && self.take("'") {
            text.push('\'');
        }
        Ok(text)
    }

    /// The next character of a string.
    fn character(&mut self, lines: bool) -> Step<char> {
        if lines && self.line_end() {
            return Ok('\n');
        }
        match self.rest.chars().next() {
            Some(character) if character == '\t' || !character.is_control() => {
                self.rest = &self.rest[character.len_utf8()..];
                Ok(character)
            }
            _ => Err("a string does not end, or has a control character"),
        }
    }

    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str, otherwise: &'static str) -> Step<()> {
        self.blanks();
        if self.take(text) { Ok(()) } else { Err(otherwise) }
    }

    fn line_end(&mut self) -> bool {
        let ended = self.take("\n") || self.take("\r\n");
        self.line += usize::from(ended);
        ended
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn comment(&mut self) {
        if self.rest.starts_with('#') {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
    }

    fn blank_lines(&mut self) {
        loop {
            self.blanks();
            self.comment();
            if !self.line_end() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(String, String)> {
        let entries = parse(text).unwrap_or_else(|wrong| panic!("{wrong:?}: {text}"));
        entries.into_iter().map(|entry| (entry.path.join("|"), format!("{:?}", entry.value))).collect()
    }

    #[test]
    fn what_containerd_documents() {
        let text = "server = \"https://registry-1.docker.io\"    # Exclude this\n\n\
            [host.\"https://public-mirror.example.com\"]\n  capabilities = [\"pull\"]\n\
            [host.\"https://docker-mirror.internal\"]\r\n  capabilities = [\"pull\", 'resolve',\n  # no push\n ]\n\
            \x20 ca = \"docker-mirror.crt\"\n  client = [[\"a.cert\", \"a.key\"],\"b.pem\"]\n  skip_verify = false\n\
            [host.\"https://docker-mirror.internal\".header]\n    x-custom-1 = \"custom header\"\n    dial = 5\n";
        let entries = shown(text);
        let keys: Vec<_> = entries.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            keys,
            [
                "server",
                "host|https://public-mirror.example.com",
                "host|https://public-mirror.example.com|capabilities",
                "host|https://docker-mirror.internal",
                "host|https://docker-mirror.internal|capabilities",
                "host|https://docker-mirror.internal|ca",
                "host|https://docker-mirror.internal|client",
                "host|https://docker-mirror.internal|skip_verify",
                "host|https://docker-mirror.internal|header",
                "host|https://docker-mirror.internal|header|x-custom-1",
                "host|https://docker-mirror.internal|header|dial",
            ]
        );
        assert_eq!(entries[4].1, r#"List([Text("pull"), Text("resolve")])"#);
        assert_eq!(entries[6].1, r#"List([List([Text("a.cert"), Text("a.key")]), Text("b.pem")])"#);
        assert_eq!((entries[7].1.as_str(), entries[10].1.as_str()), ("Flag(false)", "Other"));
    }

    #[test]
    fn every_kind_of_string_and_key() {
        let text = "a.'b c'.\"d\\u00e9\" = 'x\\y'\n\
            e = \"\"\"\none\\\n   two\n\"three\"\"\"\"\nf = '''\nx'y'''\ng = { h = \"\\t\\\"\\\\\", i.j = [] }\nk = \"\"";
        let text_of = |value: &str| format!("Text({value:?})");
        assert_eq!(
            shown(text),
            [
                ("a|b c|dé".to_owned(), text_of("x\\y")),
                ("e".to_owned(), text_of("onetwo\n\"three\"")),
                ("f".to_owned(), text_of("x'y")),
                ("g".to_owned(), "Table".to_owned()),
                ("g|h".to_owned(), text_of("\t\"\\")),
                ("g|i|j".to_owned(), "List([])".to_owned()),
                ("k".to_owned(), text_of("")),
            ]
        );
        assert_eq!(shown("[a.b]\n[a]\nx = true\n").len(), 3, "a table may be named after what is in it");
    }

    #[test]
    fn what_is_wrong_is_found_in_its_line() {
        let deep = format!("a = {}{}", "[".repeat(20), "]".repeat(20));
        let many = (0..600).map(|at| format!("k{at} = 1\n")).collect::<String>();
        for (text, line, what) in [
            ("a = 1\na = 2", 2, "twice"),
            ("[a]\n[b]\n[a]", 3, "twice"),
            ("a = 1\na.b = 2", 2, "twice"),
            ("[a]\nb = 1\n[a.b]", 3, "twice"),
            ("[[a]]", 1, "array of tables"),
            ("a", 1, "= is missing"),
            ("= 1", 1, "key is missing"),
            ("a = \n", 1, "value is missing"),
            ("a = yes", 1, "value is missing"),
            ("a = 1 2", 1, "line should end"),
            ("\n\na = \"x", 3, "does not end"),
            ("a = \"x\ny\"", 1, "does not end"),
            ("a = \"\\x\"", 1, "escape"),
            ("a = \"\\ud800\"", 1, "escape"),
            ("a = \"\\u00é\"", 1, "escape"),
            ("a = [1, 2", 1, "missing in an array"),
            ("a = [\n1,\n", 3, "value is missing"),
            ("a = {b = 1", 1, "missing in a table"),
            ("[a", 1, "] is missing"),
            ("a.b.c.d.e.f.g.h.i = 1", 1, "DEPTH_MAX"),
            (&deep, 1, "DEPTH_MAX"),
            (&many, 513, "ENTRIES_MAX"),
            ("a = \"\u{7}\"", 1, "control"),
        ] {
            let wrong = parse(text).map(drop).expect_err(text);
            assert!(wrong.0 == line && wrong.1.contains(what), "{wrong:?}: {text}");
        }
    }
}
