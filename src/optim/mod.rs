//! The optim room.
