//! The output: values raw to a pipe and escaped to a terminal, or one object a line.

use crate::{
    exit::{Failure, Run},
    lines::{ErrorLine, V},
    text,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    termios::tcgetwinsize,
};
use serde::Serialize;
use std::{
    env,
    future::Future,
    io::{self, BufWriter, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};
use tokio::sync::oneshot;

/// The standard output, in the form that was asked for. It is buffered: [`Out::flush`] ends every
/// command, and follows each line that a reader waits for.
pub(crate) struct Out {
    to: BufWriter<Box<dyn Write + Send>>,
    json: bool,
    is_terminal: bool,
    has_colors: bool,
    acts: Acts,
}

/// A flag that is set once the program has done something that stays, whatever fails from then on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acts(Arc<AtomicBool>);

impl Acts {
    /// Notes that something was done, or may be.
    pub(crate) fn note(&self) {
        self.0.store(true, Relaxed);
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The looks that a piece of a line may have on a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    Directory,
    Added,
    Changed,
    Removed,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let has_colors = is_terminal && !json && !is_set("NO_COLOR") && !is_dumb;
        let to = BufWriter::new(Box::new(io::stdout()) as Box<dyn Write + Send>);
        Self { to, json, is_terminal, has_colors, acts: Acts::default() }
    }

    /// Returns where the program notes that it has done something.
    pub(crate) fn acts(&self) -> &Acts {
        &self.acts
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Tells whether people read what is printed, and no program.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal && !self.json
    }

    /// Writes one object, on a line of its own.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Run<()> {
        let line = serde_json::to_string(object)
            .map_err(|e| Failure::here(format!("an object cannot be written: {e}")))?;
        self.line(&line)
    }

    /// Tells something beside the result, on standard error: an object, or a sentence.
    pub(crate) fn beside(&self, object: &impl Serialize, sentence: &str) {
        match serde_json::to_string(object) {
            Ok(line) if self.json => drop(writeln!(io::stderr(), "{line}")),
            _ => note(sentence),
        }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Run<()> {
        writeln!(self.to, "{line}").map_err(not_written)
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Run<()> {
        self.to.write_all(bytes).map_err(not_written)
    }

    /// Writes a value: as it is to a pipe or a file, and so that a terminal shows it and obeys
    /// nothing of it.
    pub(crate) fn value(&mut self, value: &[u8]) -> Run<()> {
        if !self.is_terminal {
            return self.raw(value);
        }
        let shown = text::for_terminal(value);
        let end = if shown.ends_with('\n') || shown.is_empty() { "" } else { "\n" };
        write!(self.to, "{shown}{end}").map_err(not_written)
    }

    /// Writes a name on a line of its own. It is never cut, since it is there to be copied.
    pub(crate) fn name(&mut self, look: Option<Look>, name: &str) -> Run<()> {
        let shown = if self.is_terminal { text::for_terminal(name.as_bytes()) } else { name.to_owned() };
        self.line(&self.painted(look, &shown))
    }

    /// Returns what stands between a name and its value: a tab for programs, which a terminal would
    /// show as wide as it likes.
    pub(crate) fn between(&self) -> &'static str {
        if self.is_terminal { "  " } else { "\t" }
    }

    /// Writes a line that people read: its beginning, with this look, and the rest, which is cut
    /// where a terminal's line ends.
    pub(crate) fn shown(&mut self, look: Option<Look>, begin: &str, rest: &str) -> Run<()> {
        let (begin, rest) = match self.width() {
            Some(width) => {
                let left = width.saturating_sub(text::width(begin));
                (text::cut(begin, width), if left == 0 { String::new() } else { text::cut(rest, left) })
            }
            None => (begin.to_owned(), rest.to_owned()),
        };
        let begin = self.painted(look, &begin);
        self.line(&format!("{begin}{rest}"))
    }

    /// Writes a sentence behind a word with this look. It is not cut, since all of it counts.
    pub(crate) fn advice(&mut self, look: Look, word: &str, sentence: &str) -> Run<()> {
        let word = self.painted(Some(look), word);
        self.line(&format!("{word}: {sentence}"))
    }

    fn painted(&self, look: Option<Look>, text: &str) -> String {
        let Some(look) = look.filter(|_| self.has_colors) else { return text.to_owned() };
        let color = match look {
            Look::Directory => "1;34",
            Look::Added => "32",
            Look::Changed => "33",
            Look::Removed => "31",
        };
        format!("\x1b[{color}m{text}\x1b[0m")
    }

    /// Returns how many columns a line has; `None` where nothing needs to be cut.
    fn width(&self) -> Option<usize> {
        if !self.is_terminal {
            return None;
        }
        let columns = tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
        columns.filter(|columns| *columns > 0)
    }

    pub(crate) fn flush(&mut self) -> Run<()> {
        self.to.flush().map_err(not_written)
    }

    /// Waits until whoever reads the output is gone. A command that may be silent for long looks
    /// for that, since it would learn it only from its next line.
    pub(crate) fn reader_gone(&self) -> impl Future<Output = Failure> + use<> {
        let (gone, told) = oneshot::channel();
        // The thread ends with the program.
        let watching = thread::Builder::new().name("kv-output".into()).spawn(move || {
            let stdout = io::stdout();
            let mut output = [PollFd::new(&stdout, PollFlags::empty())];
            loop {
                match poll(&mut output, None) {
                    Ok(_) if output[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => {
                        let _ = gone.send(());
                        return;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    // Not all that an output can be tells it.
                    _ => return drop(gone),
                }
            }
        });
        async move {
            let is_watched = watching.is_ok();
            if !is_watched || told.await.is_err() {
                std::future::pending::<()>().await;
            }
            Failure::Gone
        }
    }
}

fn not_written(e: io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::BrokenPipe => Failure::Gone,
        _ => Failure::here(format!("the output cannot be written: {e}")),
    }
}

/// Tells people something beside the result, on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "kv: {}", text::for_terminal(text.as_bytes()));
}

/// Tells why a command failed, on standard error, and whether it had done something before.
pub(crate) fn complain(failure: &Failure, has_acted: bool, json: bool) {
    #[derive(Serialize)]
    struct Plain<'a> {
        v: u8,
        error: &'a str,
    }
    let Some((word, message)) = failure.words() else { return };
    if !json {
        let before = if has_acted { "; what was done before stays done" } else { "" };
        return note(&format!("{message}{before}"));
    }
    let line = serde_json::to_string(&ErrorLine::of(failure, word, &message, has_acted))
        .or_else(|_| serde_json::to_string(&Plain { v: V, error: word }));
    let _ = writeln!(io::stderr(), "{}", line.unwrap_or_default());
}

/// The output of a command under test.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Buffer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
impl Out {
    pub(crate) fn to_buffer(buffer: &Buffer, json: bool, is_terminal: bool) -> Self {
        let to = BufWriter::new(Box::new(buffer.clone()) as Box<dyn Write + Send>);
        Self { to, json, is_terminal, has_colors: false, acts: Acts::default() }
    }
}
