//! The terminal while it shows pictures: another screen, no cursor, keys as they are pressed.

use rustix::termios;
use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use std::io;
use std::io::IsTerminal as _;
use std::io::Read as _;
use std::io::Write as _;
use tokio::sync::mpsc;

/// Shown until it is dropped; then everything is as it was.
pub(super) struct Screen {
    keys: mpsc::UnboundedReceiver<()>,
    /// How keys were read before, if they are read here.
    before: Option<Termios>,
}

/// To the other screen, without a cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the first place, and away with what is behind what is written.
const HOME: &str = "\u{1b}[H";
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";
/// Where the terminal does not say.
const LINES: usize = 24;

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let (sender, keys) = mpsc::unbounded_channel();
        let stdin = io::stdin();
        let before = if stdin.is_terminal() {
            let before = termios::tcgetattr(&stdin)?;
            let mut now = before.clone();
            // Ctrl-C is a signal as always.
            now.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            termios::tcsetattr(&stdin, OptionalActions::Now, &now)?;
            std::thread::Builder::new()
                .name("keys".to_owned())
                .spawn(move || read_keys(&sender))?;
            Some(before)
        } else {
            None
        };
        let screen = Self { keys, before };
        write(ENTER)?;
        Ok(screen)
    }

    /// When `q` was pressed.
    pub(super) async fn quit(&mut self) {
        if self.keys.recv().await.is_none() {
            // There is nobody to press it.
            std::future::pending::<()>().await;
        }
    }

    /// One picture as it is written, and how many lines the next one may have.
    pub(super) fn page(&self, lines: &[String]) -> (String, usize) {
        let size = termios::tcgetwinsize(io::stdout()).ok();
        let height = size.map_or(0, |it| usize::from(it.ws_row));
        let height = if height == 0 { LINES } else { height };
        let mut page = HOME.to_owned();
        // The last line is for saying how to leave.
        for line in lines.iter().take(height.saturating_sub(1)) {
            page.push_str(line);
            page.push_str(REST_OF_LINE);
            page.push_str("\r\n");
        }
        page.push_str("q ends");
        page.push_str(REST_OF_SCREEN);
        (page, height.saturating_sub(1))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nowhere to say that this failed.
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Ends with the process at the latest: a key is waited for as long as it takes.
fn read_keys(sender: &mpsc::UnboundedSender<()>) {
    for key in io::stdin().lock().bytes() {
        match key {
            Ok(b'q' | b'Q') => {
                let _ = sender.send(());
                return;
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}
