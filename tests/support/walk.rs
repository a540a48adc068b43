//! Walks every sequence of choices, one after the other.

/// Makes the first choice everywhere, then the next one at the last place that has one, until all were made.
#[derive(Default)]
pub(crate) struct Walk {
    /// The choices of this sequence, each with the number of its alternatives.
    choices: Vec<(usize, usize)>,
    made: usize,
}

impl Walk {
    pub(crate) fn choose(&mut self, alternatives: usize) -> usize {
        if self.made == self.choices.len() {
            self.choices.push((0, alternatives));
        }
        let (choice, before) = self.choices[self.made];
        assert_eq!(before, alternatives, "the same steps led elsewhere");
        self.made += 1;
        choice
    }

    /// Starts the next sequence. Returns `false` if there is none.
    pub(crate) fn advance(&mut self) -> bool {
        self.made = 0;
        while let Some((choice, alternatives)) = self.choices.pop() {
            if choice + 1 < alternatives {
                self.choices.push((choice + 1, alternatives));
                return true;
            }
        }
        false
    }
}
