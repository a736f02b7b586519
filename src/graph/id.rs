//! [`Id`]: how operations name their inputs.

/// A value of a program: the result of the operation with this number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(pub(crate) u32);

impl Id {
    /// The operation's number in the program.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Columns of a value: attention reads queries, keys and values as column blocks, so one projection can hold all three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Columns {
    /// The value, `[batch, rows, width]`.
    pub id: Id,
    /// The first column.
    pub offset: usize,
}

impl From<Id> for Columns {
    fn from(id: Id) -> Self {
        Self { id, offset: 0 }
    }
}

/// Most inputs an operation has.
pub(crate) const MAX_INPUTS: usize = 5;

/// The inputs of an operation by slot; `None` where an optional input is absent.
pub(crate) type Slots = [Option<Id>; MAX_INPUTS];

/// As [`Slots`], to be replaced in place.
pub(crate) type SlotsMut<'a> = [Option<&'a mut Id>; MAX_INPUTS];

/// The inputs in slot order, filled up with `None`.
pub(crate) fn slots<const N: usize>(ids: [Option<&mut Id>; N]) -> SlotsMut<'_> {
    let mut all = [const { None }; MAX_INPUTS];
    for (slot, id) in all.iter_mut().zip(ids) {
        *slot = id;
    }
    all
}
