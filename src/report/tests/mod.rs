//! Tests of the room as a whole: well-formed markup, hostile text, degenerate input, same bytes, logs.

mod gallery;
mod logs;
mod markup;
mod pictures;
