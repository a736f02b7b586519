//! Pointers from C into references and slices: the checks that can be made are made here, once.

use std::ffi::{CStr, c_char};

use heartlore::error::{Error, Result};

fn null(what: &str) -> Error {
    Error::usage(format!("{what} is null")).remedy("a handle that was freed is null: open it again")
}

/// # Safety
/// `p` is null or a live handle of its type.
pub(crate) unsafe fn borrow<'a, T>(p: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: as the caller promises.
    unsafe { p.as_ref() }.ok_or_else(|| null(what))
}

/// # Safety
/// `p` is null or a live handle of its type that no other thread uses.
pub(crate) unsafe fn borrow_mut<'a, T>(p: *mut T, what: &str) -> Result<&'a mut T> {
    // SAFETY: as the caller promises.
    unsafe { p.as_mut() }.ok_or_else(|| null(what))
}

fn check<T>(p: *const T, len: usize, what: &str) -> Result<()> {
    if p.is_null() {
        return Err(null(what));
    }
    if !p.is_aligned() {
        return Err(Error::usage(format!("{what} is not aligned")).remedy("give an array of the right type"));
    }
    if len.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Error::shape(format!("{what} of {len} values is longer than memory")));
    }
    Ok(())
}

/// A slice of `len` values; null is fine for none.
///
/// # Safety
/// `p` points at `len` values that do not change meanwhile, or `len` is 0.
pub(crate) unsafe fn slice<'a, T>(p: *const T, len: usize, what: &str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(p, len, what)?;
    // SAFETY: not null, aligned and not longer than memory (checked); readable, as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(p, len) })
}

/// # Safety
/// As [`slice`], and nobody else reads or writes the values meanwhile. They must be initialised.
pub(crate) unsafe fn slice_mut<'a, T>(p: *mut T, len: usize, what: &str) -> Result<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(p, len, what)?;
    // SAFETY: not null, aligned and not longer than memory (checked); writable, as the caller promises. Numbers of any bits
    // are valid.
    Ok(unsafe { std::slice::from_raw_parts_mut(p, len) })
}

/// # Safety
/// `p` is null or a string that ends in a zero byte.
pub(crate) unsafe fn text<'a>(p: *const c_char, what: &str) -> Result<&'a str> {
    if p.is_null() {
        return Err(null(what));
    }
    // SAFETY: not null; ends in zero, as the caller promises.
    let text = unsafe { CStr::from_ptr(p) };
    text.to_str().map_err(|_| Error::usage(format!("{what} is not UTF-8")))
}

/// Gives `value` to C through `out`.
///
/// # Safety
/// `out` is null or can be written.
pub(crate) unsafe fn give<T>(value: T, out: *mut *mut T, what: &str) -> Result<()> {
    // SAFETY: as the caller promises.
    let out = unsafe { borrow_mut(out, what) }?;
    *out = Box::into_raw(Box::new(value));
    Ok(())
}

/// Sets `out` to null first, so that a caller who forgets the code has no wild pointer.
///
/// # Safety
/// `out` is null or can be written.
pub(crate) unsafe fn clear<T>(out: *mut *mut T, what: &str) -> Result<()> {
    // SAFETY: as the caller promises. What was there before is not looked at.
    unsafe {
        if out.is_null() {
            return Err(null(what));
        }
        out.write(std::ptr::null_mut());
    }
    Ok(())
}

/// Frees a handle and sets the caller's pointer to null.
///
/// # Safety
/// `handle` is null, or points at null or at a live handle from [`give`].
pub(crate) unsafe fn free<T>(handle: *mut *mut T) {
    // SAFETY: as the caller promises.
    let Some(handle) = (unsafe { handle.as_mut() }) else { return };
    if !handle.is_null() {
        // SAFETY: a live handle came from Box::into_raw; it is null from now on, so it is freed once.
        drop(unsafe { Box::from_raw(*handle) });
        *handle = std::ptr::null_mut();
    }
}
