//! The part of TOML 1.0 that a `hosts.toml` is written in: tables, dotted and quoted keys, strings of all four
//! kinds, arrays, inline tables, booleans. What no key of that file has is passed over: numbers, dates, tables in arrays,
//! arrays of tables ([`Value::Other`]). A later version of containerd may have it.
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
    /// Something that no key has which edgepull knows: a number, a date, an array of tables, a table in an array.
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
    let mut parser = Parser {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
        entries: Vec::new(),
        arrays: Vec::new(),
    };
    parser.file().map_err(|what| (parser.line, what))?;
    Ok(parser.entries)
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    entries: Vec<Entry>,
    /// The names of arrays of tables, below which nothing is kept.
    arrays: Vec<Vec<String>>,
}

const TWICE: &str = "the same key stands there twice";

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
                table = self.keys(&[])?;
                self.expect("]]", "a ]] is missing")?;
                if !self.arrays.contains(&table) && self.add(table.clone(), Value::Other)?.is_some() {
                    self.arrays.push(table.clone());
                }
            } else if self.take("[") {
                table = self.keys(&[])?;
                self.expect("]", "a ] is missing")?;
                if self.arrays.contains(&table) {
                    return Err(TWICE);
                }
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
        let at = self.add(path, Value::Other)?;
        // A value adds nothing: what is in tables of an array is not kept.
        let value = self.value(depth)?;
        if let Some(at) = at {
            self.entries[at].value = value;
        }
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

    /// Adds an entry and returns its place; `None` for one that is passed over.
    fn add(&mut self, path: Vec<String>, value: Value) -> Step<Option<usize>> {
        if self.arrays.iter().any(|array| path.starts_with(array)) {
            return Ok(None);
        }
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
                return Err(TWICE);
            }
        }
        self.entries.push(Entry { path, value, line: self.line });
        Ok(Some(self.entries.len() - 1))
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
        if self.take("{") {
            return self.passed_over_table(depth);
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || "+-_.:".contains(c);
        let word = self.word(is_part);
        let is_date = word.len() == "1979-05-27".len() && word.as_bytes()[4] == b'-';
        match word {
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            "inf" | "+inf" | "-inf" | "nan" | "+nan" | "-nan" => Ok(Value::Other),
            word if word.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit()) => {
                // The time may stand behind a space.
                let time = self.rest.strip_prefix(' ').filter(|_| is_date);
                if let Some(time) = time.filter(|time| time.starts_with(|c: char| c.is_ascii_digit())) {
                    self.rest = time;
                    self.word(is_part);
                }
                Ok(Value::Other)
            }
            _ => Err("a value is missing, or has no quotes"),
        }
    }

    /// Behind the `{` of a table in an array.
    fn passed_over_table(&mut self, depth: usize) -> Step<Value> {
        let (entries, arrays) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.arrays));
        let read = self.inline_table(Vec::new(), depth);
        (self.entries, self.arrays) = (entries, arrays);
        read.map(|()| Value::Other)
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
    fn what_no_key_has_is_passed_over() {
        let kept = |text: &str| {
            let all = shown(&format!("{text}\n[last]\nkey = true\n"));
            assert_eq!(all[all.len() - 1], ("last|key".to_owned(), "Flag(true)".to_owned()), "{text}");
            all[..all.len() - 2].to_vec()
        };
        for value in [
            "1",
            "+1",
            "-0.5",
            "1_000",
            "0xff",
            "0o7",
            "0b1",
            "1.5e3",
            "inf",
            "-inf",
            "+nan",
            "nan",
            "07:32:00",
            "1979-05-27",
            "1979-05-27T07:32:00Z",
            "1979-05-27 07:32:00.5-07:00",
            "1979-05-27  # 07:32",
        ] {
            assert_eq!(kept(&format!("z = {value}")), [("z".to_owned(), "Other".to_owned())]);
        }
        let other = |list: &str| ("z".to_owned(), format!("List([{list}])"));
        assert_eq!(kept("z = [[1],[{a=1}]]"), [other("List([Other]), List([Other])")]);
        assert_eq!(kept("z = [{a.b = [{c = 1}]}, {a.b = 2}, {}]"), [other("Other, Other, Other")]);
        let one = |name: &str| (name.to_owned(), "Other".to_owned());
        assert_eq!(kept("[[z]]"), [one("z")]);
        assert_eq!(kept("[[z]]\na=1\n[z.b]\nc=1\n[[z.d]]\n[[z]]\na={b=2}\n"), [one("z")]);
        let below = kept("[h.\"http://u\"]\nca = \"x\"\n[[h.\"http://u\".future]]\nca = \"y\"");
        assert_eq!(below.last(), Some(&one("h|http://u|future")));
        assert_eq!(below.len(), 3, "{below:?}");
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
            ("[[a]", 1, "]] is missing"),
            ("a = 1\n[[a]]", 2, "twice"),
            ("a = []\n[[a]]", 2, "twice"),
            ("[a]\n[[a]]", 2, "twice"),
            ("[[a]]\n[a]", 2, "twice"),
            ("a = [{b = 1, b = 2}]", 1, "twice"),
            ("a = [{b = }]", 1, "value is missing"),
            ("a = infinity", 1, "value is missing"),
            ("a = 1979-05-27 x", 1, "line should end"),
            ("a = 12 34", 1, "line should end"),
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
