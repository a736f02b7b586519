//! Ctrl-C: the first asks the running command to finish its step, save and leave with exit code 130; the second ends the
//! process at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::train::Control;

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Listens for Ctrl-C (and SIGTERM) from now on. Calling it again changes nothing.
pub fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // Without a handler Ctrl-C simply ends the process, which the checkpoints survive.
        let _ = ctrlc::set_handler(|| {
            if ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
                std::process::exit(130);
            }
            use std::io::Write;
            let text = "\nstopping after this step; press Ctrl-C again to stop at once";
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    });
}

/// Whether the user asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst) > 0
}

/// [`Control::Stop`] once the user asked for it.
pub fn control() -> Control {
    if asked() { Control::Stop } else { Control::Continue }
}
