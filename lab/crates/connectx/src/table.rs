// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects by number.

use std::collections::BTreeMap;
use std::ops::Range;

/// Objects of one kind. A number is not given again before all others were: whoever uses an old one
/// finds nothing.
#[derive(Debug)]
pub struct Table<T> {
    objects: BTreeMap<u32, T>,
    numbers: Range<u32>,
    next: u32,
}

impl<T> Table<T> {
    /// No objects yet; they will have `numbers`.
    pub fn new(numbers: Range<u32>) -> Self {
        Self {
            objects: BTreeMap::new(),
            next: numbers.start,
            numbers,
        }
    }

    /// Adds the object that `make` makes for its number; none if all numbers are in use, or if
    /// `make` has none.
    pub fn insert<E>(&mut self, full: E, make: impl FnOnce(u32) -> Result<T, E>) -> Result<u32, E> {
        let free = |number: &u32| !self.objects.contains_key(number);
        let Some(number) = (self.next..self.numbers.end)
            .chain(self.numbers.start..self.next)
            .find(free)
        else {
            return Err(full);
        };
        self.objects.insert(number, make(number)?);
        self.next = number + 1;
        Ok(number)
    }

    /// The object with this number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.objects.get(&number)
    }

    /// The object with this number, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.objects.get_mut(&number)
    }

    /// Takes the object out.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        self.objects.remove(&number)
    }

    /// Takes all objects out.
    pub fn clear(&mut self) {
        self.objects.clear();
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.objects
            .iter()
            .map(|(&number, object)| (number, object))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_last() {
        let mut table = Table::new(3..6);
        let add = |table: &mut Table<u32>| table.insert((), Ok);
        assert_eq!(add(&mut table), Ok(3));
        assert_eq!(table.remove(3), Some(3));
        assert_eq!(add(&mut table), Ok(4));
        assert_eq!(add(&mut table), Ok(5));
        assert_eq!(add(&mut table), Ok(3));
        assert_eq!(add(&mut table), Err(()), "all are in use");
        assert_eq!(table.remove(4), Some(4));
        assert_eq!(table.get(4), None);
        assert_eq!(table.insert((), |_| Err::<u32, _>(())), Err(()));
        assert_eq!(add(&mut table), Ok(4), "a refused one took no number");
        assert_eq!(table.len(), 3);
    }
}
