//! `WWW-Authenticate`: what a registry wants before it answers (RFC 9110, 11.6.1).

/// The most challenges in one header that are looked at, and the most parameters of each.
const PARTS_MAX: usize = 16;

/// One challenge: a scheme and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; its name is in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All challenges of one header value. What makes no sense ends the list.
    pub(super) fn parse(header: &str) -> Vec<Challenge> {
        let mut challenges: Vec<Challenge> = Vec::new();
        let mut rest = Scanner(header);
        loop {
            rest.skip(" \t,");
            let Some(word) = rest.token() else { break };
            rest.skip(" \t");
            let Some(rest_of_parameter) = rest.0.strip_prefix('=') else {
                if challenges.len() == PARTS_MAX {
                    break;
                }
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                continue;
            };
            rest.0 = rest_of_parameter;
            rest.skip(" \t");
            let (Some(challenge), Some(value)) = (challenges.last_mut(), rest.value()) else { break };
            if challenge.parameters.len() < PARTS_MAX {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
        }
        challenges
    }
}

struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn skip(&mut self, characters: &str) {
        self.0 = self.0.trim_start_matches(|character| characters.contains(character));
    }

    /// A token (RFC 9110, 5.6.2), roughly: all but separators.
    fn token(&mut self) -> Option<&'a str> {
        let end = self.0.find([' ', '\t', ',', '=', '"']).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token or a quoted string.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            // Unquoted values with a '=' in them are wrong, but they are sent.
            let end = self.0.find([' ', '\t', ',']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(value.to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(header: &str) -> (Option<String>, Option<String>, Option<String>) {
        let challenges = Challenge::parse(header);
        let bearer = challenges.iter().find(|challenge| challenge.scheme == "bearer").unwrap();
        let get = |name| bearer.parameter(name).map(str::to_owned);
        (get("realm"), get("service"), get("scope"))
    }

    #[test]
    fn what_registries_send() {
        let some = |text: &str| Some(text.to_owned());
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#;
        assert_eq!(
            bearer(hub),
            (
                some("https://auth.docker.io/token"),
                some("registry.docker.io"),
                some("repository:library/alpine:pull")
            )
        );
        assert_eq!(bearer(r#"bEaReR Realm = "x" , SERVICE=y"#), (some("x"), some("y"), None));
        assert_eq!(
            bearer(
                r#"Basic realm="a, b=\"c\" \\", Bearer realm="x",scope="repository:a:pull,push",error="invalid_token""#
            ),
            (some("x"), None, some("repository:a:pull,push"))
        );
        assert_eq!(
            bearer("Bearer realm=https://a/?b=c,service=d"),
            (some("https://a/?b=c"), some("d"), None)
        );
        let several = Challenge::parse("Negotiate, Basic realm=r");
        assert_eq!(several.len(), 2);
        assert_eq!((several[1].scheme.as_str(), several[1].parameter("realm")), ("basic", Some("r")));
        assert_eq!(
            Challenge::parse(r#"Basic realm="a, b=\"c\" \\""#)[0].parameter("realm"),
            Some(r#"a, b="c" \"#)
        );
    }

    #[test]
    fn nonsense_ends_the_list() {
        for header in ["", ",,, ,", "=", "=x", "\"", "\"Bearer\""] {
            assert_eq!(Challenge::parse(header), [], "{header:?}");
        }
        assert_eq!(Challenge::parse(r#"Bearer realm="open"#)[0].parameter("realm"), None);
        assert_eq!(Challenge::parse(r#"Bearer realm="open\"#)[0].parameter("realm"), None);
        assert_eq!(Challenge::parse(&"a ".repeat(10_000)).len(), PARTS_MAX);
        assert!(
            Challenge::parse(&format!("Bearer {}", "a=b,".repeat(10_000)))[0].parameters.len() <= PARTS_MAX
        );
    }
}
