//! edgepull(1), in mdoc: lists from the tables, and the prose that only a manual needs.

use edgepull::cli::definition::{
    EXIT_CODES, IMAGES, OptionSpec, commands, common_options, options_of, own_options,
};
use std::fmt::Write;

/// The page; `date` as mdoc wants it: `November 21, 2026`.
pub fn page(date: &str) -> String {
    let mut page = format!(".Dd {date}\n{HEAD}");
    for command in commands() {
        let _ = write!(page, ".It Cm {}", command.name);
        for option in options_of(Some(command.verb)) {
            let value = option.value.map(|(value, _)| format!(" Ar {}", escaped(value))).unwrap_or_default();
            let _ = write!(page, " Oo Fl \\-{}{value} Oc", escaped(option.long));
        }
        for argument in command.arguments {
            let (open, close) = if argument.optional { ("Oo ", " Oc") } else { ("", "") };
            let more = if argument.repeated { " ..." } else { "" };
            let _ = write!(page, " {open}Ar {}{more}{close}", argument.name);
        }
        let _ = writeln!(page, "\n{}.", sentence(command.help));
        for line in sentences(command.more) {
            let _ = writeln!(page, "{}", escaped(&line));
        }
        list(&mut page, own_options(command.verb));
    }
    page.push_str(".El\n.Pp\n.Ar IMAGE\nis one of\n.Bl -tag -width Ds\n");
    for image in IMAGES {
        let _ = writeln!(page, ".It {}\n{}.", escaped(image.form), sentence(image.help));
    }
    page.push_str(".El\n");
    let common: Vec<_> = common_options().collect();
    for alike in common.chunk_by(|one, other| one.commands == other.commands) {
        let _ = writeln!(page, ".Pp\nWith {}:", alike[0].companions());
        list(&mut page, alike.iter().copied());
    }
    page.push_str(DEPLOYMENTS);
    page.push_str(".Sh OPTIONS\nThey stand before or after the command.\n");
    list(&mut page, options_of(None));
    page.push_str(SELECTION);
    if cfg!(feature = "publish") {
        page.push_str(PUBLISHING);
    }
    page.push_str(".Sh EXIT STATUS\n.Bl -tag -width Ds -compact\n");
    for (code, meaning) in EXIT_CODES {
        let _ = writeln!(page, ".It {code}\n{meaning}");
    }
    page.push_str(".El\n.Pp\nAfter any failure\n.Ar DIR\nis as it was before.\n");
    page.push_str(TAIL);
    page.lines().map(folded).collect()
}

/// Text in lines of at most 80 columns, as mdoc wants it; requests as they are.
fn folded(line: &str) -> String {
    if line.starts_with('.') {
        return format!("{line}\n");
    }
    let (mut out, mut column) = (String::new(), 0);
    for word in line.split(' ') {
        let width = word.chars().count();
        if column > 0 {
            let fits = column + 1 + width <= 80;
            out.push(if fits { ' ' } else { '\n' });
            column = if fits { column + 1 } else { 0 };
        }
        out.push_str(word);
        column += width;
    }
    out + "\n"
}

fn list(page: &mut String, options: impl Iterator<Item = &'static OptionSpec>) {
    let mut options = options.peekable();
    if options.peek().is_none() {
        return;
    }
    page.push_str(".Bl -tag -width Ds\n");
    for option in options {
        page.push_str(".It ");
        if let Some(short) = option.short {
            let _ = write!(page, "Fl {short} , ");
        }
        let _ = write!(page, "Fl \\-{}", escaped(option.long));
        if let Some((value, _)) = option.value {
            let _ = write!(page, " Ar {}", escaped(value));
        }
        let _ = writeln!(page, "\n{}.", sentence(option.help));
    }
    page.push_str(".El\n");
}

/// Text in lines for a terminal, as mdoc wants it: a line for each sentence.
fn sentences(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .replace('\n', " ")
        .split(". ")
        .map(|sentence| sentence.trim_end_matches('.').to_owned() + ".")
        .collect();
    lines.retain(|line| line.len() > 1);
    lines
}

/// A row's help with a capital.
fn sentence(help: &str) -> String {
    let mut letters = help.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    escaped(&first.chain(letters).collect::<String>())
}

/// Roff reads backslashes, hyphens and a dot at a line's start; mdoc reads brackets and bars only as words of
/// their own. Backquotes become quotes.
fn escaped(text: &str) -> String {
    let mut out = String::from(if text.starts_with(['.', '\'']) { "\\&" } else { "" });
    let mut inside = false;
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '…' => out.push_str("..."),
            '`' => {
                out.push_str(if inside { "\\(cq" } else { "\\(oq" });
                inside = !inside;
            }
            other => out.push(other),
        }
    }
    out
}

const HEAD: &str = "\
.Dt EDGEPULL 1
.Os
.Sh NAME
.Nm edgepull
.Nd put the right container image onto this board
.Sh SYNOPSIS
.Nm
.Op Ar OPTIONS
.Ar COMMAND
.Sh DESCRIPTION
.Nm
finds out who the board is, picks the entry of a manifest list that it can run, and streams the image's layers
into a root file system: each byte once, every hash checked, in less than 3 MiB of memory.
Where an image has nothing that the board can run, or lies about its platform, it says so and leaves nothing
behind.
.Pp
The commands:
.Bl -tag -width Ds
";

const DEPLOYMENTS: &str = "\
.Sh DEPLOYMENTS
A deployment's generations are in
.Pa /var/lib/edgepull/deployments/NAME/generations ;
.Pa current
and
.Pa previous
beside it are links to two of them, each switched in one step.
What runs a deployment uses
.Pa current/rootfs
and
.Pa current/config.json .
.Pp
A new generation becomes current, its on\\-switch command is run, then its health command, again and again until that
succeeds or its time is over.
With
.Fl \\-confirm\\-within
it has to be confirmed by hand besides; with none of these the switch itself confirms it.
One that is not good is gone back from, by the same steps, and its digest is not tried again by an update.
The first generation stays in any case.
.Pp
Whatever is cut short, by a kill or a power cut, leaves
.Pa current
at a whole generation, and the next run goes on: a command is tried three times before its generation is given up.
After a restart of the board the on\\-switch command is not run again, as everything was started from
.Pa current
then; so it may itself restart the board.
";

const SELECTION: &str = "\
.Sh WHICH ENTRY IS TAKEN
The evidence, strongest first: an explicit variant or platform; implementer and part of every core, of which the
least capable wins; AT_PLATFORM, the machine's name and the one in the model's name; the kernel's
.Dq CPU architecture
last.
A 32-bit core without VFP gets v5 images at most.
64-bit boards fall back to 32-bit images only where the kernel runs 32-bit programs.
.Pp
The first of the board's platforms that the list has is taken, whatever the list's order.
The program that the image runs is then read: code that needs more than its entry's label says is refused.
.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev REGISTRY_AUTH_FILE , DOCKER_CONFIG , HOME
Credentials are those of
.Pa $REGISTRY_AUTH_FILE ,
.Pa $DOCKER_CONFIG/config.json
or
.Pa ~/.docker/config.json .
.It Ev SSL_CERT_FILE
The certificates to trust (PEM), unless
.Fl \\-ca\\-file
names them.
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa .NAME.edgepull
Beside
.Ar DIR ;
what is being unpacked.
The next pull clears what a killed one left.
.It Pa /var/lib/edgepull
What edgepull remembers between runs.
.It Pa /etc/edgepull/pull/NAME.conf
For
.Pa edgepull\\-pull@NAME.service ,
which pulls at boot while the destination is absent:
.Ev IMAGE ,
.Ev DESTINATION
and, split at spaces,
.Ev OPTIONS .
.It Pa /etc/edgepull/deploy/NAME.conf
For
.Pa edgepull\\-provision.service ,
which deploys NAME at boot while nothing is deployed:
.Ev IMAGE
and, quoted as for a shell,
.Ev OPTIONS .
.It Pa /etc/edgepull/app/NAME.conf
For
.Pa edgepull\\-app@NAME.service ,
which runs NAME with
.Xr crun 1 :
where what it writes goes to
.Pq Ev ROOT , SIZE , UPPER ,
what it sees of the board
.Pq Ev BIND ,
and what more than others it may do
.Pq Ev CAPABILITIES ;
.Pa /usr/libexec/edgepull/app
explains them.
.It Pa /etc/edgepull/update.conf
For
.Pa edgepull\\-update.service ,
which
.Pa edgepull\\-update.timer
starts daily and after a boot:
.Ev OPTIONS .
.El
";

const PUBLISHING: &str = "\
.Sh PUBLISHING
The command lines of manifest\\-tool's
.Cm push
and of
.Cm docker manifest
work with
.Nm edgepull manifest
in their place, and the same lists of the same images have the same digests.
What a list's repository lacks of its images is mounted there from another repository of the host, or sent.
Before a list is pushed, the programs that its entries run are read: what is not what its label says is warned of, and
with
.Fl \\-strict
nothing is pushed.
.Pp
Lists in the making are in
.Pa $XDG_STATE_HOME/edgepull/lists
or
.Pa ~/.local/state/edgepull/lists .
";

const TAIL: &str = "\
.Sh EXAMPLES
Why this board takes which entry:
.Pp
.Dl $ edgepull inspect alpine
.Pp
A runtime bundle, and what runs it:
.Pp
.Dl $ edgepull pull \\-\\-bundle registry.example/app:1 /srv/app
.Dl $ crun run \\-b /srv/app app
.Pp
A deployment that systemd runs, checks and keeps up to date:
.Pp
.Dl # edgepull deploy \\-\\-on\\-switch \\(aqsystemctl restart edgepull\\-app@web\\(aq web registry.example/web:1
.Dl # systemctl enable \\-\\-now edgepull\\-app@web edgepull\\-update.timer
.Sh SEE ALSO
.Xr crun 1 ,
.Xr systemd.service 5 ,
.Xr switch_root 8
";

#[cfg(test)]
mod tests {
    use super::*;
    use edgepull::cli::definition::options;

    #[test]
    fn the_page_names_every_row() {
        let page = page("January 1, 2026");
        for option in options() {
            assert!(page.contains(&format!("Fl \\-{}", escaped(option.long))), "{}", option.long);
        }
        for command in commands() {
            assert!(page.contains(&format!(".It Cm {}", command.name)), "{}", command.name);
        }
        assert!(page.starts_with(".Dd January 1, 2026\n"));
    }

    #[test]
    fn text_is_never_read_as_a_request() {
        assert_eq!(escaped(".Sh"), "\\&.Sh");
        assert_eq!(escaped("`a-b`"), "\\(oqa\\-b\\(cq");
        assert_eq!(escaped("a\\b"), "a\\eb");
        assert!(page("x").lines().all(|line| !line.is_empty()));
    }
}
