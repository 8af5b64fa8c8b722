//! Sorted lists, sets and maps, made by little code.
//!
//! The standard library's sort is written out anew for each type and each comparison, 2 to 6 kB of the binary every time, and
//! a set or a map that is collected has one too. The lists of a node are short: here one sort of places serves them all.
//! Where many thousands are sorted, as names of files are while layers are unpacked, `sort_unstable` is worth its code.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Equal ones keep their order.
pub fn sort<T: Ord>(list: &mut [T]) {
    sort_by(list, T::cmp);
}

/// Equal ones keep their order.
pub fn sort_by_key<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(list, |a, b| key(a).cmp(&key(b)));
}

/// Equal ones keep their order.
pub fn sort_by<T>(list: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let mut from = (0..list.len()).collect::<Vec<_>>();
    sort_places(&mut from, &|a, b| compare(&list[a], &list[b]));
    move_all(&from, &mut |a, b| list.swap(a, b));
}

/// What `collect` would make.
pub fn set<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for one in all {
        set.insert(one);
    }
    set
}

/// What `collect` would make: of several values of a key the last.
pub fn map<K: Ord, V>(all: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    for (key, value) in all {
        map.insert(key, value);
    }
    map
}

fn sort_places(places: &mut [usize], compare: &dyn Fn(usize, usize) -> Ordering) {
    places.sort_by(|a, b| compare(*a, *b));
}

/// Moves what stands at `from[n]` to `n`, for every `n`.
fn move_all(from: &[usize], swap: &mut dyn FnMut(usize, usize)) {
    let mut to = vec![0; from.len()];
    for (place, origin) in from.iter().enumerate() {
        to[*origin] = place;
    }
    // Each swap brings one to its place for good.
    for place in 0..to.len() {
        while to[place] != place {
            let target = to[place];
            swap(place, target);
            to.swap(place, target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library_does(list in prop::collection::vec((0u8..20, any::<u8>()), 0..200)) {
            let (mut ours, mut theirs) = (list.clone(), list.clone());
            sort_by_key(&mut ours, |(key, _)| *key);
            theirs.sort_by_key(|(key, _)| *key);
            prop_assert_eq!(&ours, &theirs);
            sort(&mut ours);
            theirs.sort();
            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(map(list.clone()), list.iter().copied().collect());
            prop_assert_eq!(set(list.clone()), list.into_iter().collect());
        }
    }
}
