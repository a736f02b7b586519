//! Memory for a caller that has none of its own: the page, which writes samples into the module's memory.
#![cfg(target_family = "wasm")]

use std::alloc::{Layout, alloc, dealloc};

fn layout(len: usize) -> Option<Layout> {
    Layout::from_size_align(len.max(1), 8).ok()
}

/// `len` bytes, aligned to 8; null if there is no such memory.
#[unsafe(no_mangle)]
pub extern "C" fn heartlore_alloc(len: usize) -> *mut u8 {
    // SAFETY: the layout has at least one byte.
    layout(len).map_or(std::ptr::null_mut(), |layout| unsafe { alloc(layout) })
}

/// Gives back what heartlore_alloc gave for the same `len`. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_dealloc(bytes: *mut u8, len: usize) {
    if let Some(layout) = layout(len).filter(|_| !bytes.is_null()) {
        // SAFETY: from heartlore_alloc with the same layout, as the caller promises.
        unsafe { dealloc(bytes, layout) };
    }
}
