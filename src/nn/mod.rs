//! The nn room.
