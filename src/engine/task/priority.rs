//! How urgent a task is.

/// A free worker takes the highest priority that waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// Taken when nothing else waits.
    Low = 0,
    /// The default.
    #[default]
    Normal = 1,
    /// Taken before everything else.
    High = 2,
}

impl Priority {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    /// All priorities.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The priority with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
