//! The signal room.
