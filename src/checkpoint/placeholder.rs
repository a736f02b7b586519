//! Files that stand where another file should be: what a repository or a server gave in place of the data.
//!
//! A clone without git-lfs, or a download of the wrong link, leaves a small text under the right name. Every reader asks
//! here before it judges the content, so that the message names the cause and not the damage it looks like.

use crate::error::{Error, Result};

/// As many bytes of a file as [`refuse`] needs to see.
pub const HEAD: usize = 256;

/// Refuses a file that begins with `head` if it is a placeholder.
///
/// # Errors
/// [`crate::error::Kind::Format`] that says what the file is and how to get the data.
pub fn refuse(head: &[u8]) -> Result<()> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins =
        |start: &str| text.get(..start.len()).is_some_and(|t| t.eq_ignore_ascii_case(start.as_bytes()));
    let lfs = ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"];
    if lfs.iter().any(|start| begins(start)) {
        return Err(Error::format("this is a git-lfs pointer, not the data").remedy(
            "fetch the data: `git lfs pull` in the repository, or download the file itself from its page",
        ));
    }
    if begins("/annex/objects/") {
        return Err(Error::format("this is a git-annex pointer, not the data")
            .remedy("fetch the data: `git annex get FILE` in the repository"));
    }
    if begins("<!doctype html") || begins("<html") {
        return Err(Error::format("this is a web page, not the data")
            .remedy("download the file itself: the link led to a page about it, or to a login"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_pages_are_named_and_data_pass() {
        for (head, what) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git-lfs"),
            ("version https://git-lfs.github.com/spec/v2\r\n", "git-lfs"),
            ("version https://hawser.github.com/spec/v1\n", "git-lfs"),
            ("/annex/objects/SHA256E-s3--00.npy\n", "git-annex"),
            ("\n\n<!DOCTYPE html>\n<html>", "web page"),
            ("\u{feff}<HTML lang=en>", "web page"),
        ] {
            let e = refuse(head.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(what) && e.contains("remedy"), "{head}: {e}");
        }
        for head in ["", "version", "version 1", "{\"a\":1}", "<x>", "time,ecg\n0,1\n"] {
            refuse(head.as_bytes()).unwrap();
        }
    }
}
