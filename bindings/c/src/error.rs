//! Codes, the error handle, and the guard that every function runs in.

use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use heartlore::error::{Error, Kind, Result};

/// No error.
pub const HEARTLORE_OK: i32 = 0;
/// An argument makes no sense: null, closed, a setting, a combination.
pub const HEARTLORE_USAGE: i32 = 2;
/// Lengths that do not fit.
pub const HEARTLORE_SHAPE: i32 = 3;
/// The content of a file (or of memory) is not what it should be.
pub const HEARTLORE_FORMAT: i32 = 4;
/// Readable, but of no use for the purpose.
pub const HEARTLORE_DATA: i32 = 5;
/// The operating system refused.
pub const HEARTLORE_IO: i32 = 6;
/// The computation went wrong.
pub const HEARTLORE_NUMERIC: i32 = 7;
/// A fault in the library itself: please report it.
pub const HEARTLORE_INTERNAL: i32 = 99;

/// Code and text of the last call that was given this handle. One thread at a time.
#[derive(Debug)]
pub struct heartlore_error {
    code: i32,
    text: CString,
}

impl heartlore_error {
    fn set(&mut self, code: i32, text: &str) {
        self.code = code;
        // A text with a zero byte inside (from a file's name) ends there.
        let clean: Vec<u8> = text.bytes().take_while(|b| *b != 0).collect();
        self.text = CString::new(clean).unwrap_or_default();
    }
}

fn code_of(e: &Error) -> i32 {
    match e.kind() {
        Kind::Usage | Kind::Interrupted => HEARTLORE_USAGE,
        Kind::Shape => HEARTLORE_SHAPE,
        Kind::Format => HEARTLORE_FORMAT,
        Kind::Data => HEARTLORE_DATA,
        Kind::Io => HEARTLORE_IO,
        Kind::Numeric => HEARTLORE_NUMERIC,
        _ => HEARTLORE_INTERNAL,
    }
}

/// Runs `work`; nothing unwinds out of here. The outcome goes to `error`, if there is one, and its code is returned.
///
/// # Safety
/// `error` is null or came from [`heartlore_error_new`] and is used by no other thread.
pub(crate) unsafe fn guard(error: *mut heartlore_error, work: impl FnOnce() -> Result<()>) -> i32 {
    let (code, text) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => (HEARTLORE_OK, String::new()),
        Ok(Err(e)) => (code_of(&e), e.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            (HEARTLORE_INTERNAL, format!("a fault in heartlore: {said}"))
        }
    };
    // SAFETY: null or a live handle of this thread, as the caller promises.
    if let Some(error) = unsafe { error.as_mut() } {
        error.set(code, &text);
    }
    code
}

/// A new error handle, to be freed by heartlore_error_free.
#[unsafe(no_mangle)]
pub extern "C" fn heartlore_error_new() -> *mut heartlore_error {
    Box::into_raw(Box::new(heartlore_error { code: HEARTLORE_OK, text: CString::default() }))
}

/// Frees *error and sets it to null. Null, and a pointer to null, are fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_error_free(error: *mut *mut heartlore_error) {
    // SAFETY: as for every handle.
    unsafe { crate::handle::free(error) };
}

/// The code of the last call with this handle; HEARTLORE_USAGE for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_error_code(error: *const heartlore_error) -> i32 {
    // SAFETY: null or a live handle, as the header says.
    unsafe { error.as_ref() }.map_or(HEARTLORE_USAGE, |e| e.code)
}

/// What happened, where, and what to do about it; empty after a success. Valid until the next call with this handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_error_message(error: *const heartlore_error) -> *const c_char {
    // SAFETY: null or a live handle, as the header says.
    unsafe { error.as_ref() }.map_or(c"no error handle".as_ptr(), |e| e.text.as_ptr())
}
