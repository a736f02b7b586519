//! heartlore for C and C++. The header is `include/heartlore.h`, generated from here; a test compares them.
//!
//! Everything here is a translation: pointers are checked ([`handle`]), nothing unwinds across the border ([`error`]), and the
//! work is done by `heartlore::Model`, `heartlore::model::Stream` and `heartlore::signal`.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod error;
mod handle;
mod memory;
mod model;
mod signal;
mod stream;

pub use error::*;
pub use model::*;
pub use signal::*;
pub use stream::*;

use std::ffi::c_char;
use std::sync::OnceLock;

/// Grows when a function or a struct of this header changes in a way that needs a new compilation.
pub const HEARTLORE_ABI: u32 = 1;

/// HEARTLORE_ABI of the library in use: compare it with the header's.
#[unsafe(no_mangle)]
pub extern "C" fn heartlore_abi() -> u32 {
    HEARTLORE_ABI
}

/// Version of the library, such as "0.2.0".
#[unsafe(no_mangle)]
pub extern "C" fn heartlore_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Passed the quality gate.
pub const HEARTLORE_QUALITY_OK: i32 = 0;
/// There was no gate.
pub const HEARTLORE_QUALITY_UNCHECKED: i32 = -1;

/// The code of a judgement by its name: 0 for ok, else 1 + the reason's place in `Reason::ALL`.
fn quality_code(name: &str) -> i32 {
    match name {
        "ok" => HEARTLORE_QUALITY_OK,
        "unchecked" => HEARTLORE_QUALITY_UNCHECKED,
        name => {
            let place = heartlore::signal::Reason::ALL.iter().position(|r| r.name() == name);
            place.map_or(HEARTLORE_QUALITY_UNCHECKED, |i| i as i32 + 1)
        }
    }
}

/// A quality code in words: "ok", "unchecked", or why the quality gate drops the window. Never freed; "unknown" for a code
/// that there is not.
#[unsafe(no_mangle)]
pub extern "C" fn heartlore_quality_name(quality: i32) -> *const c_char {
    // Written once and never changed: not state.
    static NAMES: OnceLock<Vec<std::ffi::CString>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let named = |r: &heartlore::signal::Reason| std::ffi::CString::new(r.name()).unwrap_or_default();
        heartlore::signal::Reason::ALL.iter().map(named).collect()
    });
    match quality {
        HEARTLORE_QUALITY_OK => c"ok".as_ptr(),
        HEARTLORE_QUALITY_UNCHECKED => c"unchecked".as_ptr(),
        q => {
            usize::try_from(q - 1).ok().and_then(|i| names.get(i)).map_or(c"unknown".as_ptr(), |n| n.as_ptr())
        }
    }
}
