//! The tensor room.
