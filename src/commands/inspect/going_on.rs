//! Goes on where a document of the list cannot be had: a registry that answers 403 or 500 for one of them has given the
//! list all the same, and whoever looks at that wants to see the others. A pull does not ask for most of them.

use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::select::{Selection, is_of_document};
use crate::source::{Fetched, Source};
use std::io::Read;

/// How many documents may stay without an answer until no more are asked for. Each may take the time of six tries.
const UNANSWERED_MAX: usize = 3;

/// A source whose documents are missing, each with its reason, where it does not answer.
pub(super) struct GoingOn<'a> {
    source: &'a mut dyn Source,
    /// The first that was not answered, and why.
    first: Option<(Digest, Error)>,
    unanswered: Vec<Digest>,
}

impl<'a> GoingOn<'a> {
    pub(super) fn new(source: &'a mut dyn Source) -> GoingOn<'a> {
        GoingOn { source, first: None, unanswered: Vec::new() }
    }

    fn ask(
        &mut self,
        descriptor: &Descriptor,
        ask: impl FnOnce(&mut dyn Source) -> Result<Fetched>,
    ) -> Result<Fetched> {
        let error = if self.unanswered.len() < UNANSWERED_MAX {
            match ask(self.source) {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            }
        } else {
            let message = format!("it was not asked for, as {UNANSWERED_MAX} others could not be had");
            Error::new(Kind::Network, message)
        };
        if is_of_document(error.kind()) {
            return Err(error);
        }
        self.unanswered.push(descriptor.digest);
        // To whoever looks at the list it is not there.
        let missing = Error::new(Kind::NotFound, format!("could not be asked: {}", error.message()));
        self.first.get_or_insert((descriptor.digest, error));
        Err(missing)
    }

    /// Returns the error that would end a pull, because what was not answered could have changed what is taken: a nested
    /// index, or the config of an entry without a label where no labelled one is taken.
    pub(super) fn ends_a_pull(&mut self, selection: &Selection) -> Option<Error> {
        let takes_labelled = selection.taken.is_some_and(|(taken, _)| selection.entries[taken].is_labelled());
        let lacks_an_index = selection.entries.iter().any(|entry| {
            entry.descriptor.is_index()
                && entry.verdict.unusable().is_some()
                && self.unanswered.contains(&entry.descriptor.digest)
        });
        let (digest, error) = self.first.take().filter(|_| lacks_an_index || !takes_labelled)?;
        Some(error.context(format!("what this board takes cannot be told: {digest}")))
    }
}

impl Source for GoingOn<'_> {
    fn root(&mut self) -> Result<Fetched> {
        self.source.root()
    }

    fn has(&mut self, descriptor: &Descriptor) -> bool {
        self.source.has(descriptor)
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.ask(descriptor, |source| source.manifest(descriptor))
    }

    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.ask(descriptor, |source| source.config(descriptor))
    }

    fn layer(&mut self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.source.layer(descriptor, offset)
    }
}
